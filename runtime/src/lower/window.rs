//! The windows of convolutions, as ONNX spells them: one explicit form for all spellings.

use crate::limits::MAX_IMAGE_SIDE;
use crate::onnx::NodeProto;
use crate::onnx::attributes::Attributes;

use super::Reason;

/// Most rows or columns that `output_padding` adds.
const MOST_ADDED: usize = 64;

/// For each axis of a picture. Everything but the kernel is at most [`MAX_IMAGE_SIDE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    /// Padding before and behind.
    pub(super) before: Vec<usize>,
    pub(super) behind: Vec<usize>,
    /// Of a transposed convolution: what is added behind its output.
    pub(super) added: Vec<usize>,
    /// Sizes of what it makes.
    pub(super) made: Vec<usize>,
}

/// How padding follows from sizes.
#[derive(Clone, Copy, PartialEq)]
enum Pads {
    Given,
    None,
    /// As much as keeps the size (over the stride); an odd one more behind (`upper`) or before.
    Same {
        upper: bool,
    },
}

impl Window {
    /// Of a Conv with kernels of these sides over a picture of these.
    pub(super) fn of_conv(node: &NodeProto, kernel: &[usize], size: &[usize]) -> Result<Self, Reason> {
        let (mut window, pads) = Self::spelled(node, kernel, size)?;
        for (axis, &inputs) in size.iter().enumerate() {
            let (stride, reach) = (window.strides[axis], window.reach(axis)?);
            if let Pads::Same { upper } = pads {
                let outputs = inputs.div_ceil(stride);
                let total = ((outputs - 1) * stride + reach).saturating_sub(inputs);
                window.share(axis, total, upper);
            }
            let padded = inputs + window.before[axis] + window.behind[axis];
            let left = padded.checked_sub(reach).ok_or("a kernel that is larger than its picture")?;
            window.made[axis] = left / stride + 1;
        }
        Ok(window)
    }

    /// Of a pool over a picture of these sides, with the kernel that its attributes tell.
    pub(super) fn of_pool(node: &NodeProto, size: &[usize]) -> Result<Self, Reason> {
        let attributes = Attributes(node);
        let kernel = sizes("kernel_shape", attributes.ints("kernel_shape"), size.len(), MAX_IMAGE_SIDE)?;
        let mut window = Self::of_conv(node, &kernel, size)?;
        if attributes.int("ceil_mode", 0) != 0 && attributes.text("auto_pad", "NOTSET") == "NOTSET" {
            for (axis, &inputs) in size.iter().enumerate() {
                let (stride, reach) = (window.strides[axis], window.reach(axis)?);
                let padded = inputs + window.before[axis] + window.behind[axis];
                let made = (padded - reach).div_ceil(stride) + 1;
                // a window that would start behind the picture is none
                let starts = (made - 1) * stride < inputs + window.before[axis];
                window.made[axis] = if starts { made } else { made - 1 };
            }
        }
        for (axis, &inputs) in size.iter().enumerate() {
            let last = (window.made[axis] - 1) * window.strides[axis];
            if window.before[axis] >= window.reach(axis)? || last >= inputs + window.before[axis] {
                return Err("a pool with windows that see nothing of the picture".into());
            }
        }
        Ok(window)
    }

    /// Of a ConvTranspose. Padding that follows from `output_shape` or `auto_pad` is as onnxruntime has it: never below 0.
    pub(super) fn of_transposed(node: &NodeProto, kernel: &[usize], size: &[usize]) -> Result<Self, Reason> {
        let (mut window, pads) = Self::spelled(node, kernel, size)?;
        let attributes = Attributes(node);
        window.added = match attributes.ints("output_padding") {
            [] => vec![0; size.len()],
            added => sizes("output_padding", added, size.len(), MOST_ADDED)?,
        };
        let wanted = match attributes.ints("output_shape") {
            [] => None,
            // some exporters name the batch and the channels too
            wanted if wanted.len() == size.len() + 2 => {
                Some(sizes("output_shape", &wanted[2..], size.len(), MAX_IMAGE_SIDE)?)
            }
            wanted => Some(sizes("output_shape", wanted, size.len(), MAX_IMAGE_SIDE)?),
        };
        for (axis, &inputs) in size.iter().enumerate() {
            let (stride, reach) = (window.strides[axis], window.reach(axis)?);
            let whole = (inputs - 1) * stride + reach + window.added[axis];
            let upper = pads == Pads::Same { upper: true };
            match (&wanted, pads) {
                (Some(wanted), _) => {
                    let total = whole.checked_sub(wanted[axis]);
                    let total = total.ok_or("an output_shape that is larger than what the layer makes")?;
                    window.share(axis, total, upper);
                }
                (None, Pads::Same { .. }) => {
                    window.share(axis, whole.saturating_sub(inputs * stride), upper);
                }
                _ => {}
            }
            let left = whole.checked_sub(window.before[axis] + window.behind[axis]);
            window.made[axis] = left
                .filter(|size| (1..=MAX_IMAGE_SIDE).contains(size))
                .ok_or("a transposed convolution that leaves no picture, or too large a one")?;
        }
        Ok(window)
    }

    /// Attributes that both have.
    fn spelled(node: &NodeProto, kernel: &[usize], size: &[usize]) -> Result<(Self, Pads), Reason> {
        let attributes = Attributes(node);
        let axes = size.len();
        if kernel.len() != axes || size.contains(&0) {
            return Err("weights or a picture of another rank than it needs".into());
        }
        let given = attributes.ints("kernel_shape");
        if !given.is_empty() && !given.iter().copied().eq(kernel.iter().map(|side| *side as i64)) {
            return Err("kernel_shape and the weights differ".into());
        }
        let list = |name: &str| match attributes.ints(name) {
            [] => Ok(vec![1; axes]),
            values => sizes(name, values, axes, MAX_IMAGE_SIDE),
        };
        let (strides, dilations) = (list("strides")?, list("dilations")?);
        if strides.iter().chain(&dilations).chain(kernel).any(|value| *value == 0) {
            return Err("a stride, dilation or kernel of 0".into());
        }
        let pads = match attributes.text("auto_pad", "NOTSET") {
            "NOTSET" | "" => Pads::Given,
            "VALID" => Pads::None,
            "SAME_UPPER" => Pads::Same { upper: true },
            "SAME_LOWER" => Pads::Same { upper: false },
            other => return Err(format!("auto_pad is {other:?}, which is not known here")),
        };
        let sides = match attributes.ints("pads") {
            [] => vec![0; 2 * axes],
            sides => sizes("pads", sides, 2 * axes, MAX_IMAGE_SIDE)?,
        };
        if pads != Pads::Given && sides.iter().any(|side| *side > 0) {
            return Err("both pads and auto_pad".into());
        }
        let (before, behind) = sides.split_at(axes);
        let window = Self {
            kernel: kernel.to_vec(),
            strides,
            dilations,
            before: before.to_vec(),
            behind: behind.to_vec(),
            added: vec![0; axes],
            made: vec![0; axes],
        };
        Ok((window, pads))
    }

    /// Pixels from the first to the last that a kernel sees.
    fn reach(&self, axis: usize) -> Result<usize, Reason> {
        let reach = (self.kernel[axis] - 1).checked_mul(self.dilations[axis]);
        reach
            .filter(|reach| *reach < 1 << 32)
            .map(|reach| reach + 1)
            .ok_or_else(|| "a kernel that reaches too far".into())
    }

    fn share(&mut self, axis: usize, total: usize, upper: bool) {
        let half = total / 2;
        (self.before[axis], self.behind[axis]) =
            if upper { (half, total - half) } else { (total - half, half) };
    }
}

/// Whether the numbers of a window are usable, whatever it slides over: for nodes that are not run here.
pub(super) fn check_numbers(node: &NodeProto) -> Result<(), Reason> {
    let attributes = Attributes(node);
    for (name, least) in [
        ("kernel_shape", 1),
        ("strides", 1),
        ("dilations", 1),
        ("pads", 0),
        ("output_padding", 0),
        ("output_shape", 1),
    ] {
        let values = attributes.ints(name);
        if values.iter().any(|value| !(least..=MAX_IMAGE_SIDE as i64).contains(value)) {
            return Err(format!(
                "{name} of {values:?}, which are not sizes from {least} to {MAX_IMAGE_SIDE}"
            ));
        }
    }
    Ok(())
}

/// Sizes of an attribute, of which there have to be so many.
fn sizes(name: &str, values: &[i64], count: usize, most: usize) -> Result<Vec<usize>, Reason> {
    let sizes: Option<Vec<usize>> =
        values.iter().map(|value| usize::try_from(*value).ok().filter(|value| *value <= most)).collect();
    sizes
        .filter(|sizes| sizes.len() == count)
        .ok_or_else(|| format!("{name} of {values:?}, which are not {count} sizes of up to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::AttributeProto;

    fn node(attributes: &[(&str, &[i64])], auto_pad: &str) -> NodeProto {
        let ints = attributes.iter().map(|(name, ints)| AttributeProto {
            name: (*name).into(),
            ints: ints.to_vec(),
            ..AttributeProto::default()
        });
        let text = AttributeProto {
            name: "auto_pad".into(),
            s: auto_pad.as_bytes().to_vec(),
            ..AttributeProto::default()
        };
        NodeProto { attribute: ints.chain([text]).collect(), ..NodeProto::default() }
    }

    fn pads(window: &Window) -> (usize, usize, usize, usize) {
        (window.before[0], window.behind[0], window.added[0], window.made[0])
    }

    /// Rows: kernel, stride, size, attributes; padding before and behind, what is added, the size made, as onnxruntime 1.31 has it.
    #[test]
    fn transposed_convolutions_are_padded_as_onnxruntime_does_it() {
        let of = |kernel, stride: i64, size, attributes: &[(&str, &[i64])], auto_pad| {
            let strides = [stride];
            let all: Vec<(&str, &[i64])> =
                attributes.iter().copied().chain([("strides", &strides[..])]).collect();
            pads(&Window::of_transposed(&node(&all, auto_pad), &[kernel], &[size]).unwrap())
        };
        assert_eq!(of(4, 2, 4, &[("pads", &[1, 1])], ""), (1, 1, 0, 8));
        assert_eq!(of(3, 2, 4, &[], "SAME_UPPER"), (0, 1, 0, 8));
        assert_eq!(of(3, 2, 4, &[], "SAME_LOWER"), (1, 0, 0, 8));
        assert_eq!(of(3, 2, 4, &[], "VALID"), (0, 0, 0, 9));
        // kernels no larger than the stride
        assert_eq!(of(2, 2, 4, &[], "SAME_UPPER"), (0, 0, 0, 8));
        assert_eq!(of(1, 2, 4, &[], "SAME_UPPER"), (0, 0, 0, 7));
        assert_eq!(of(3, 2, 4, &[("output_padding", &[1])], "SAME_UPPER"), (1, 1, 1, 8));
        // without auto_pad an odd one goes before
        assert_eq!(of(4, 2, 4, &[("output_shape", &[7])], ""), (2, 1, 0, 7));
        assert_eq!(of(4, 2, 4, &[("output_shape", &[7])], "SAME_UPPER"), (1, 2, 0, 7));
        let larger = node(&[("strides", &[2]), ("output_shape", &[12])], "");
        assert!(Window::of_transposed(&larger, &[4], &[4]).unwrap_err().contains("larger"));
    }

    #[test]
    fn convolutions_keep_their_size_with_auto_pad() {
        let of = |kernel, size, auto_pad| {
            pads(&Window::of_conv(&node(&[("strides", &[2])], auto_pad), &[kernel], &[size]).unwrap())
        };
        assert_eq!(of(4, 7, "SAME_UPPER"), (1, 2, 0, 4));
        assert_eq!(of(4, 7, "SAME_LOWER"), (2, 1, 0, 4));
        assert_eq!(of(1, 7, "SAME_UPPER"), (0, 0, 0, 4));
        assert_eq!(of(4, 7, "VALID"), (0, 0, 0, 2));
    }

    #[test]
    fn absurd_windows_are_refused_in_words() {
        for (attributes, told) in [
            (&[("strides", &[0][..])][..], "of 0"),
            (&[("strides", &[1, 1])], "strides of [1, 1]"),
            (&[("pads", &[1, -1])], "pads of"),
            (&[("pads", &[1, 9000])], "up to 8192"),
            (&[("kernel_shape", &[5])], "differ"),
            (&[("dilations", &[5])], "larger than its picture"),
        ] {
            let refusal = Window::of_conv(&node(attributes, ""), &[3], &[4]).unwrap_err();
            assert!(refusal.contains(told), "{refusal}");
        }
        assert!(Window::of_conv(&node(&[("pads", &[1, 1])], "SAME_UPPER"), &[3], &[4]).is_err());
        assert!(Window::of_conv(&node(&[], "SAME_MIDDLE"), &[3], &[4]).is_err());
    }
}
