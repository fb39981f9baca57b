//! Networks from pictures to pictures, of any size, and how far around a pixel they look.

use edgegen_runtime::model::ImageShape;

use super::chain::Builder;
use super::family::{Architecture, NetworkConfig};
use super::{Activation, Graph, Interpolation, Op, Padding, Shape, Shuffle, ValueId};
use crate::{Error, Result};

/// Most residual blocks at one size.
const MOST_BLOCKS: usize = 64;
/// Most sizes.
const MOST_SIZES: usize = 6;

/// Picture (C, H, W) in [0, 1] → picture (C, scale·H, scale·W), not clamped.
///
/// `restore` keeps the size. It computes what to add to the picture at half of its size and less: `hidden` is the number of
/// residual blocks (K. He et al., 2016, without norms as B. Lim et al., 2017, "EDSR") at half size, a quarter, and so on; `base`
/// channels at half size, twice as many with each halving. What goes up is added to what went down (O. Ronneberger et al.,
/// 2015, "U-Net").
///
/// `unet` keeps the size as well, and makes all of the picture, in [0, 1]: convolutions with kernels of 4 halve it, batch norms
/// after all but the first, what goes up is put beside what went down (P. Isola et al., 2017, "pix2pix", without dropout, and
/// down to the last of `hidden`'s sizes instead of one pixel); `hidden` is the number of residual blocks at each size, on the way
/// down.
///
/// `enlarge` computes at the small size, with the blocks of `hidden`'s one number on `base` channels, what a last convolution
/// and a shuffle of pixels (W. Shi et al., 2016, "ESPCN") add to the bilinear enlargement.
///
/// # Errors
/// [`Error::Config`] if the configuration or the pictures' sides do not fit.
pub fn network(config: &NetworkConfig, image: ImageShape, scale: usize) -> Result<Graph<()>> {
    let refused = |problem: String| Err(Error::Config(problem));
    let sizes = config.hidden.len();
    if let Some(blocks) = config.hidden.iter().find(|blocks| **blocks > MOST_BLOCKS) {
        return refused(format!(
            "network.hidden holds {blocks}; it takes at most {MOST_BLOCKS} blocks a size"
        ));
    }
    let graph = match (config.architecture, scale) {
        (Architecture::Restore, 1) if (1..=MOST_SIZES).contains(&sizes) => restorer(config, image)?,
        (Architecture::Unet, 1) if (1..=MOST_SIZES).contains(&sizes) => unet(config, image)?,
        (Architecture::Restore | Architecture::Unet, 1) => {
            return refused(format!(
                "network.hidden has {sizes} numbers; the restore and unet architectures take 1 to {MOST_SIZES}, the blocks at half size, a quarter and so on"
            ));
        }
        (Architecture::Enlarge, 2..) if sizes == 1 => enlarger(config, image, scale)?,
        (Architecture::Enlarge, 2..) => {
            return refused(format!(
                "network.hidden has {sizes} numbers; the enlarge architecture takes one, its number of blocks"
            ));
        }
        (Architecture::Restore | Architecture::Unet | Architecture::Enlarge, _) => {
            return refused(format!(
                "objective.scale is {scale}: the restore and unet architectures keep the size (1), the enlarge architecture enlarges (2, 3, 4)"
            ));
        }
        (other, _) => {
            return refused(format!(
                "network.architecture is {}; a network from pictures to pictures takes restore, unet or enlarge",
                format!("{other:?}").to_lowercase()
            ));
        }
    };
    Ok(graph)
}

fn blocks(
    builder: &mut Builder,
    value: ValueId,
    channels: usize,
    count: usize,
    hidden: Activation,
) -> Result<ValueId> {
    let keep = || Op::conv(channels, channels, 3, 1, 1);
    (0..count).try_fold(value, |value, _| builder.residual(value, [keep(), Op::Activation(hidden), keep()]))
}

fn restorer(config: &NetworkConfig, image: ImageShape) -> Result<Graph<()>> {
    let (base, hidden) = (config.base, config.activation);
    let sizes = config.hidden.len();
    check_sides(image, sizes)?;
    let mut builder = Builder::new("transform", Shape::of_image(image));
    let input = builder.input();
    let mut value = builder.add(Op::conv(image.channels, base, 4, 2, 1), &[input])?;
    let mut beside = Vec::new();
    for (size, count) in config.hidden.iter().enumerate() {
        let (channels, deepest) = (base << size, size + 1 == sizes);
        // half of them on the way down, half on the way up
        value = blocks(&mut builder, value, channels, if deepest { *count } else { count / 2 }, hidden)?;
        if !deepest {
            beside.push((value, channels, count - count / 2));
            value = builder.add(Op::conv(channels, 2 * channels, 4, 2, 1), &[value])?;
        }
    }
    for (other, channels, count) in beside.into_iter().rev() {
        let up = Op::UpsampleConv { inputs: 2 * channels, outputs: channels, kernel: 3 };
        value = builder.add(up, &[value])?;
        value = builder.add(Op::Add, &[value, other])?;
        value = blocks(&mut builder, value, channels, count, hidden)?;
    }
    let last = Op::conv(base, 4 * image.channels, 3, 1, 1);
    let pixels = Shuffle { block: 2, first: 0, size: (image.height, image.width) };
    let difference = builder.chain(value, [last, Op::Shuffle(pixels)])?;
    let output = builder.add(Op::Add, &[input, difference])?;
    Ok(builder.finish(&[output]))
}

fn check_sides(image: ImageShape, sizes: usize) -> Result<()> {
    if !image.height.is_multiple_of(1 << sizes) || !image.width.is_multiple_of(1 << sizes) {
        return Err(Error::Config(format!(
            "with {sizes} numbers in network.hidden, the sides of a patch are multiples of {}, not {}x{}",
            1 << sizes,
            image.width,
            image.height
        )));
    }
    Ok(())
}

fn unet(config: &NetworkConfig, image: ImageShape) -> Result<Graph<()>> {
    let (base, sizes) = (config.base, config.hidden.len());
    check_sides(image, sizes)?;
    let hidden = || Op::Activation(config.activation);
    let down = |inputs, outputs| Op::conv(inputs, outputs, 4, 2, 1);
    let mut builder = Builder::new("transform", Shape::of_image(image));
    let input = builder.input();
    let mut value = builder.add(down(image.channels, base), &[input])?;
    let mut beside = Vec::new();
    for (size, count) in config.hidden.iter().enumerate() {
        let channels = base << size;
        if size > 0 {
            beside.push((value, channels / 2));
            value =
                builder.chain(value, [hidden(), down(channels / 2, channels), Op::batch_norm(channels)])?;
        }
        let keep = || [Op::conv(channels, channels, 3, 1, 1), Op::batch_norm(channels)];
        for _ in 0..*count {
            let [first, norm] = keep();
            let [second, last] = keep();
            value = builder.residual(value, [hidden(), first, norm, hidden(), second, last])?;
        }
    }
    let mut inputs = base << (sizes - 1);
    for (other, outputs) in beside.into_iter().rev() {
        let up = Op::UpsampleConv { inputs, outputs, kernel: 3 };
        value = builder.chain(value, [hidden(), up, Op::batch_norm(outputs)])?;
        value = builder.add(Op::Concat, &[value, other])?;
        inputs = 2 * outputs;
    }
    let up = Op::UpsampleConv { inputs, outputs: image.channels, kernel: 3 };
    let output = builder.chain(value, [hidden(), up, Op::Activation(Activation::Sigmoid)])?;
    Ok(builder.finish(&[output]))
}

fn enlarger(config: &NetworkConfig, image: ImageShape, scale: usize) -> Result<Graph<()>> {
    let (base, hidden, channels) = (config.base, config.activation, image.channels);
    let mut builder = Builder::new("transform", Shape::of_image(image));
    let input = builder.input();
    let first = [Op::conv(channels, base, 3, 1, 1), Op::Activation(hidden)];
    let mut value = builder.chain(input, first)?;
    value = blocks(&mut builder, value, base, config.hidden[0], hidden)?;
    let (height, width) = (scale * image.height, scale * image.width);
    let last = Op::conv(base, scale * scale * channels, 3, 1, 1);
    let pixels = Shuffle { block: scale, first: 0, size: (height, width) };
    let difference = builder.chain(value, [last, Op::Shuffle(pixels)])?;
    let large = builder.add(Op::Resize { height, width, by: Interpolation::Bilinear }, &[input])?;
    let output = builder.add(Op::Add, &[large, difference])?;
    Ok(builder.finish(&[output]))
}

/// What a network from pictures of `image` to pictures is given, beside what it makes of it: (2·C, H, W) → a map of logits
/// (1, h, w), each of a patch of 34×34 pixels, every four pixels: the discriminator of P. Isola et al. 2017 ("pix2pix", appendix
/// 6.1.2) with two layers of stride 2. `base` channels in the first layer, twice as many in each that follows.
///
/// # Errors
/// [`Error::Config`] if the pictures are smaller than 16×16.
pub fn patches(base: usize, image: ImageShape) -> Result<Graph<()>> {
    if image.height.min(image.width) < 16 {
        return Err(Error::Config(format!(
            "a discriminator of patches takes pieces of 16x16 pixels or more, not {}x{}: choose a larger objective.patch",
            image.width, image.height
        )));
    }
    let pair = ImageShape { channels: 2 * image.channels, ..image };
    let mut builder = Builder::new("discriminator", Shape::of_image(pair));
    let hidden = || Op::Activation(Activation::LeakyRelu(0.2));
    let ops = [
        Op::conv(pair.channels, base, 4, 2, 1),
        hidden(),
        Op::conv(base, 2 * base, 4, 2, 1),
        Op::batch_norm(2 * base),
        hidden(),
        Op::conv(2 * base, 4 * base, 4, 1, 1),
        Op::batch_norm(4 * base),
        hidden(),
        Op::conv(4 * base, 1, 4, 1, 1),
    ];
    let input = builder.input();
    let logits = builder.chain(input, ops)?;
    Ok(builder.finish(&[logits]))
}

/// How a network of pictures of any size may be given a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Pixels around a pixel that have a say in what it becomes, at most.
    pub border: usize,
    /// What heights, widths and the places of pieces are multiples of.
    pub multiple: usize,
}

/// What a pixel `i` of a value depends on, along either axis: pixels step·i + low to step·i + high of the input.
#[derive(Clone, Copy)]
struct Window {
    step: f64,
    low: f64,
    high: f64,
}

impl Window {
    /// Of a value that reads pixels step·i + low to step·i + high of the one that this is of.
    fn then(self, step: f64, low: f64, high: f64) -> Self {
        Self { step: self.step * step, low: self.low + self.step * low, high: self.high + self.step * high }
    }
}

impl<W> Graph<W> {
    /// How far around a pixel it looks; `None` if its outputs depend on the whole picture, or an operator is among its nodes of
    /// which this is not known.
    pub fn reach(&self) -> Option<Reach> {
        let mut windows: Vec<Option<Window>> = vec![None; self.values.len()];
        windows[self.input] = Some(Window { step: 1.0, low: 0.0, high: 0.0 });
        let mut multiple = 1;
        for node in &self.nodes {
            let before = windows[node.inputs[0]]?;
            let slid = |kernel: usize, stride: usize, padding: Padding| match padding {
                Padding::Zeros(padding) => {
                    let low = -(padding as f64);
                    Some(before.then(stride as f64, low, low + kernel as f64 - 1.0))
                }
                Padding::Same | Padding::Ceil(_) => None,
            };
            // pixel i of what is `times` as large is made of pixel ⌊i / times⌋
            let larger = |times: f64| before.then(1.0 / times, -(times - 1.0) / times, 0.0);
            let found = match &node.op {
                Op::Conv { window, .. } => slid(window.kernel, window.stride, window.padding)?,
                Op::AveragePool { window, .. } | Op::MaxPool(window) => {
                    slid(window.kernel, window.stride, window.padding)?
                }
                Op::UpsampleConv { kernel, .. } => {
                    let around = (kernel / 2) as f64;
                    larger(2.0).then(1.0, -around, around)
                }
                // output o is made of inputs i with o = i·stride − padding + k, 0 ≤ k < kernel
                Op::ConvTranspose { kernel, stride, padding, .. } => {
                    let (kernel, stride, padding) = (*kernel as f64, *stride as f64, *padding as f64);
                    before.then(1.0 / stride, (padding - kernel + 1.0) / stride, padding / stride)
                }
                Op::Shuffle(Shuffle { block, first: 0, size }) => {
                    let (_, height, width) = self.values[node.inputs[0]].shape.image();
                    if *size != (height * block, width * block) {
                        return None;
                    }
                    larger(*block as f64)
                }
                Op::Unshuffle { block } => before.then(*block as f64, 0.0, *block as f64 - 1.0),
                Op::Resize { height, width, by } => {
                    let (_, rows, columns) = self.values[node.inputs[0]].shape.image();
                    let times = height / rows;
                    if times == 0 || (*height, *width) != (rows * times, columns * times) {
                        return None;
                    }
                    match by {
                        Interpolation::Nearest => larger(times as f64),
                        // between the centres of two
                        Interpolation::Bilinear => before.then(1.0 / times as f64, -1.0, 1.0),
                    }
                }
                Op::Blur => before.then(1.0, -1.0, 1.0),
                Op::Activation(_) | Op::Slice { .. } | Op::Norm { over: super::Over::Batch, .. } => before,
                Op::Add | Op::Mul | Op::Concat => node.inputs.iter().try_fold(before, |joined, input| {
                    let other = windows[*input]?;
                    let same = (other.step - joined.step).abs() < 1e-9;
                    same.then(|| Window {
                        low: joined.low.min(other.low),
                        high: joined.high.max(other.high),
                        ..joined
                    })
                })?,
                _ => return None,
            };
            let step = found.step.round() as usize;
            if found.step > 1.0 - 1e-9 && step > 0 {
                multiple = lcm(multiple, step);
            }
            windows[node.output] = Some(found);
        }
        let around = self.outputs.iter().map(|output| {
            let window = windows[*output]?;
            // the pixels of an enlarged pixel lie behind it
            let behind = (window.high + 1.0 - window.step).max(window.high);
            Some((-window.low).max(behind))
        });
        let border = around.collect::<Option<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
        Some(Reach { border: (border - 1e-9).ceil() as usize, multiple })
    }
}

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{Lanes, Network};

    fn config(architecture: Architecture, hidden: &[usize]) -> NetworkConfig {
        NetworkConfig { base: 4, hidden: hidden.to_vec(), ..NetworkConfig::plain(architecture) }
    }

    /// What changes if one pixel does lies within the border, and reaches most of it.
    #[test]
    fn nothing_outside_of_the_border_has_a_say() {
        for (architecture, hidden, scale) in [
            (Architecture::Restore, &[1, 1][..], 1),
            (Architecture::Restore, &[2], 1),
            (Architecture::Restore, &[1, 0, 1], 1),
            (Architecture::Unet, &[0, 1], 1),
            (Architecture::Enlarge, &[1], 2),
            (Architecture::Enlarge, &[2], 3),
        ] {
            let config = config(architecture, hidden);
            let image = ImageShape { channels: 1, height: 16, width: 128 };
            let graph = network(&config, image, scale).unwrap().initialise(3, 0);
            let Reach { border, multiple } = graph.reach().unwrap();
            let network = Network::new(&Lanes, &graph).unwrap();
            let mut picture: Vec<f32> = (0..image.values()).map(|i| (i % 7) as f32 / 7.0).collect();
            let before = network.infer(&picture, None).unwrap();
            let mut farthest = 0;
            for column in 56..56 + 2 * multiple {
                let place = 8 * image.width + column;
                let kept = std::mem::replace(&mut picture[place], 100.0);
                let after = network.infer(&picture, None).unwrap();
                picture[place] = kept;
                let width = scale * image.width;
                for (at, (a, b)) in before.iter().zip(&after).enumerate() {
                    if a != b {
                        let apart = (at % width / scale).abs_diff(column);
                        farthest = farthest.max(apart);
                        assert!(apart <= border, "{architecture:?} {hidden:?}: {apart} of {border}");
                    }
                }
            }
            assert!(farthest + 2 * multiple >= border, "{architecture:?} {hidden:?}: {farthest} of {border}");
            assert_eq!(multiple, if scale == 1 { 1 << hidden.len() } else { 1 });
        }
    }

    #[test]
    fn misfits_are_refused_by_name() {
        let image = ImageShape { channels: 1, height: 20, width: 20 };
        let refuse = |config: NetworkConfig, scale: usize, expected: &str| {
            let line = network(&config, image, scale).unwrap_err().to_string();
            assert!(line.contains(expected), "{line}");
        };
        refuse(config(Architecture::Restore, &[1, 1, 1]), 1, "multiples of 8");
        refuse(config(Architecture::Restore, &[]), 1, "0 numbers");
        refuse(config(Architecture::Restore, &[1]), 2, "keep the size");
        refuse(config(Architecture::Enlarge, &[1, 1]), 2, "takes one");
        refuse(config(Architecture::Mlp, &[1]), 2, "restore, unet or enlarge");
        refuse(config(Architecture::Enlarge, &[100]), 2, "100");
    }
}
