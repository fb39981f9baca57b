//! What a generator learns likeness from: values of a frozen network, of which pictures that look alike have like ones.

use crate::random::{Purpose, Stream};
use edgegen_runtime::model::{ImageShape, Metadata};

use super::features::FeatureGraph;
use super::{Graph, Interpolation, Op, Shape, ValueId, parameters_of};
use crate::Result;

/// Values of a descriptor.
pub const DESCRIPTOR: usize = 256;
/// Side of the picture whose colours a descriptor holds.
const COLOURS: usize = 16;
/// Strides whose features are compared, and from which on a descriptor holds them.
const STRIDES: [usize; 4] = [2, 4, 8, 16];
const DESCRIBED: usize = 4;
/// Sizes of a picture that are compared without a network.
const LEVELS: usize = 4;

/// A graph from pictures (C, H, W) in [−1, 1] to values that are compared; nothing of it is trained.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// The graph; its outputs are the taps, then the descriptor.
    pub graph: Graph,
    /// Feature maps, of a network with pixels of length 1: how unlike two pictures are is the sum over taps of the mean over pixels of
    /// the squared distance (R. Zhang et al., 2018, "LPIPS", without learned weights).
    pub taps: Vec<ValueId>,
    /// ([`DESCRIPTOR`]): the taps from stride 4 on and the colours, projected at random so that distances stay about
    /// the same.
    pub descriptor: ValueId,
}

impl Teacher {
    /// Of no network: colours and their slopes at the picture's size and at a half, a quarter and an eighth of it.
    ///
    /// # Errors
    /// [`crate::Error::Export`], which no picture gives.
    pub fn plain(picture: ImageShape) -> Result<Self> {
        let mut graph = Graph::new("plain", ("picture", Shape::of_image(picture)), Metadata::default());
        let ImageShape { channels, height, width } = picture;
        let slopes = Op::conv(channels, 2 * channels, 3, 1, 1);
        // central differences along rows, then along columns
        let mut weight = vec![0f32; 2 * channels * channels * 9];
        for channel in 0..channels {
            for (along, [before, after]) in [[3, 5], [1, 7]].into_iter().enumerate() {
                let first = ((along * channels + channel) * channels + channel) * 9;
                (weight[first + before], weight[first + after]) = (-1.0, 1.0);
            }
        }
        let (mut taps, mut described) = (Vec::new(), Vec::new());
        for level in 0..LEVELS {
            let mut value = graph.input;
            if level > 0 {
                let smaller = |side: usize| (side >> level).max(1);
                let op = Op::Resize {
                    height: smaller(height),
                    width: smaller(width),
                    by: Interpolation::Bilinear,
                };
                value = graph.push(
                    &format!("colours{level}"),
                    op,
                    &[value],
                    Vec::new(),
                    format!("colours{level}"),
                )?;
            }
            let name = format!("slopes{level}");
            let mut parameters = parameters_of(&name, &slopes, vec![weight.clone(), vec![0.0; 2 * channels]]);
            parameters.iter_mut().for_each(|parameter| parameter.trained = false);
            let slope = graph.push(&name, slopes.clone(), &[value], parameters, name.clone())?;
            taps.extend([value, slope]);
            if level + 2 >= LEVELS {
                described.extend([(value, 1.0), (slope, 1.0)]);
            }
        }
        let descriptor = graph.project(&described)?;
        graph.outputs = taps.iter().copied().chain([descriptor]).collect();
        Ok(Self { graph, taps, descriptor })
    }

    /// Of a network's features at those of the strides 2, 4, 8 and 16 that it has.
    ///
    /// # Errors
    /// [`crate::Error::Export`], which no network that was read gives.
    pub fn of(features: FeatureGraph) -> Result<Self> {
        let FeatureGraph { mut graph, taps: by_stride, .. } = features;
        graph.parameters_mut().for_each(|parameter| parameter.trained = false);
        let (mut taps, mut described) = (Vec::new(), Vec::new());
        for (stride, value) in by_stride.into_iter().filter(|(stride, _)| STRIDES.contains(stride)) {
            let tap = graph.push(&format!("unit{stride}"), Op::UnitLength, &[value], Vec::new(), "tap")?;
            graph.values[tap].name = format!("unit{stride}");
            taps.push(tap);
            if stride >= DESCRIBED {
                described.push((tap, 1.0));
            }
        }
        // a colour in [−1, 1] differs by more than a unit feature does
        let resize = Op::Resize { height: COLOURS, width: COLOURS, by: Interpolation::Bilinear };
        let picture = graph.input;
        let colours = graph.push("colours", resize, &[picture], Vec::new(), "colours")?;
        described.push((colours, 1.0));
        let descriptor = graph.project(&described)?;
        graph.outputs = taps.iter().copied().chain([descriptor]).collect();
        graph.prune();
        Ok(Self { graph, taps, descriptor })
    }
}

impl Graph {
    /// [`DESCRIPTOR`] values of feature maps with weights: the squared distance of two pictures' is about Σ weight · mean
    /// over pixels of the squared distance of their maps (W. Johnson, J. Lindenstrauss, 1984).
    fn project(&mut self, maps: &[(ValueId, f64)]) -> Result<ValueId> {
        let (mut rows, mut scales) = (Vec::new(), Vec::new());
        for (index, (map, weight)) in maps.iter().enumerate() {
            let shape = self.values[*map].shape;
            let row = Op::Reshape(Shape::Vector(shape.values()));
            rows.push(self.push(&format!("row{index}"), row, &[*map], Vec::new(), format!("row{index}"))?);
            scales
                .extend(vec![(weight / (shape.pixels() * DESCRIPTOR) as f64).sqrt() as f32; shape.values()]);
        }
        let all = self.push("rows", Op::Concat, &rows, Vec::new(), "rows")?;
        let op = Op::Dense { inputs: scales.len(), outputs: DESCRIPTOR };
        let mut stream = Stream::new(0, Purpose::Match, u64::MAX);
        let weight = (0..DESCRIPTOR)
            .flat_map(|_| scales.iter().map(|scale| scale * stream.normal()).collect::<Vec<_>>());
        let mut parameters = parameters_of("project", &op, vec![weight.collect(), vec![0.0; DESCRIPTOR]]);
        parameters.iter_mut().for_each(|parameter| parameter.trained = false);
        self.push("project", op, &[all], parameters, "descriptor")
    }
}
