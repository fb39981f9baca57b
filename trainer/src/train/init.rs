//! First weights from a model or a run (`--init-from`), for fine-tuning.
//!
//! Layers are matched by their place, counted from the picture's side: from the front in an encoder, a discriminator or
//! a classifier, from the back in a generator or a decoder. So networks for other sizes of pictures still share the
//! layers next to the picture. A tensor whose shape differs keeps its own first values, and is named.
//!
//! A run and a model folder with `weights.safetensors` hold all networks. Other model folders hold ONNX files, in which
//! batch norms are folded into the layers before them; see [`refit_norms`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use edgegen_runtime::model::{MANIFEST, ModelFolder, OpenOptions, Part, Precision};
use half::f16;
use safetensors::{Dtype, SafeTensors};

use super::folder::RunFolder;
use super::kept::Kept;
use crate::compute::{ClassedRows, Network};
use crate::graph::import::{self, Ports};
use crate::graph::{EPSILON, Graph, Node, Op, Over, Parameter, upsample};
use crate::{Error, Result};

/// A model folder's file with the weights that training goes on from: of a generator and its discriminator.
pub const WEIGHTS: &str = "weights.safetensors";
/// Metadata key of the classes' names in that file, a JSON list.
pub const CLASSES_KEY: &str = "edgegen.classes";
/// Largest file that is read: 8 GiB.
const LARGEST_FILE: u64 = 8 << 30;

/// Tensors of one layer, or of a batch norm, by their names in it.
#[derive(Clone, Debug, Default)]
struct Group {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Group {
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

/// The weights of a model or a run.
pub struct Weights {
    /// Where they are from.
    origin: String,
    /// Layers with weights, in order, by the part's name in a run.
    parts: BTreeMap<String, Vec<Group>>,
    /// Names of the classes, in the order of class tables' rows.
    classes: Vec<String>,
}

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// Trained values that were.
    pub values: usize,
    /// Trained values of all networks.
    pub of: usize,
    /// Why tensors, or whole networks, were not.
    pub left: Vec<String>,
}

impl Weights {
    /// Reads those of a model folder or of a run's best report.
    ///
    /// # Errors
    /// One that names `path`, if it is neither, or is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        if path.join(WEIGHTS).is_file() {
            return Self::of_file(&path.join(WEIGHTS), Vec::new());
        }
        if path.join(MANIFEST).is_file() {
            return Self::of_model(path);
        }
        let run = RunFolder::existing(path).map_err(|_| {
            Error::run(path, "is neither a model folder nor a run; --init-from takes one of the two")
        })?;
        let best = Some(run.best()).filter(|path| path.is_file());
        let classes = Kept::read(&run.pictures())?.facts.classes;
        Self::of_file(&best.unwrap_or_else(|| run.last()), classes)
    }

    fn of_file(path: &Path, classes: Vec<String>) -> Result<Self> {
        let damaged = |problem: String| Error::run(path, format!("holds no usable weights: {problem}"));
        let length = fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
        if length > LARGEST_FILE {
            return Err(damaged(format!("{length} bytes are more than {LARGEST_FILE}")));
        }
        let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let named = header.metadata().as_ref().and_then(|metadata| metadata.get(CLASSES_KEY));
        let classes = match named {
            Some(json) => serde_json::from_str(json).map_err(|e| damaged(e.to_string()))?,
            None => classes,
        };
        // part → layer → its tensors
        let mut layers: BTreeMap<String, BTreeMap<usize, Group>> = BTreeMap::new();
        for (name, view) in file.tensors() {
            let Some(name) = name.strip_prefix("weights/") else { continue };
            let mut words = name.splitn(3, '.');
            let (Some(part), Some(layer), Some(tensor)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            // the state of spectral normalisation is found again
            let Ok(layer) = layer.parse::<usize>() else { continue };
            if tensor.contains('.') {
                continue;
            }
            let values: Vec<f32> = match view.dtype() {
                Dtype::F32 => view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::F16 => {
                    view.data().as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
                }
                other => return Err(damaged(format!("{name} is {other:?}"))),
            };
            if !values.iter().all(|value| value.is_finite()) {
                return Err(damaged(format!("{name} holds a NaN or an infinite value")));
            }
            let group = layers.entry(part.into()).or_default().entry(layer).or_default();
            group.tensors.insert(tensor.into(), (view.shape().to_vec(), values));
        }
        let mut parts: BTreeMap<String, Vec<Group>> =
            layers.into_iter().map(|(part, layers)| (part, layers.into_values().collect())).collect();
        // the moving average is the better generator to go on from
        if let Some(average) = parts.remove("average") {
            parts.insert("generator".into(), average);
        }
        if parts.is_empty() {
            return Err(damaged("it has no tensor whose name begins with weights/".into()));
        }
        Ok(Self { origin: path.display().to_string(), parts, classes })
    }

    fn of_model(path: &Path) -> Result<Self> {
        let folder = ModelFolder::open(path)?;
        let (mut parts, mut classes) = (BTreeMap::new(), Vec::new());
        for part in folder
            .manifest
            .parts
            .iter()
            .copied()
            .filter(|part| !matches!(part, Part::Classifier | Part::Features))
        {
            let name = format!("{} of {}", part, path.display());
            let bytes = folder.read_part(part, Some(Precision::Fp32))?;
            let model = edgegen_runtime::model::Model::from_bytes(&bytes, &name, &OpenOptions::default())?;
            let facts = model.facts().clone();
            if !facts.metadata.classes.is_empty() {
                classes.clone_from(&facts.metadata.classes);
            }
            let graph = import::graph(&bytes, &name, &Ports::of(&facts)?)?;
            parts.insert(part.to_string(), groups_of(&graph));
        }
        if parts.is_empty() {
            return Err(Error::run(
                path,
                format!(
                    "holds no {WEIGHTS}: a classifier is fine-tuned from its run, or from a folder that has that file"
                ),
            ));
        }
        Ok(Self { origin: path.display().to_string(), parts, classes })
    }

    /// Whether there are weights of the network `part`.
    pub fn has(&self, part: &str) -> bool {
        self.parts.contains_key(part)
    }

    /// Sets the weights of `graph`, the network `part`, as far as they fit; `classes` are the names of the classes that
    /// it is conditioned on. Adds to `taken` what was taken over.
    ///
    /// Returns, for batch norms that have been folded away, their layer and the shift that the layer before had.
    pub fn give(
        &self,
        part: &str,
        graph: &mut Graph,
        classes: &[String],
        taken: &mut Taken,
    ) -> Vec<(usize, Vec<f32>)> {
        taken.of += graph.trained_count();
        let Some(groups) = self.parts.get(part) else {
            taken.left.push(format!("the {part}: {} holds none", self.origin));
            return Vec::new();
        };
        let (mut folded, mut left) = (Vec::new(), Vec::new());
        let mut ours = linear_layers(&graph.nodes);
        let mut theirs = linear_groups(groups);
        if matches!(part, "generator" | "decoder") {
            ours.reverse();
            theirs.reverse();
        }
        for (count, own) in ours.iter().enumerate() {
            let Some(their) = theirs.get(count) else {
                left.push(format!("{part}.{}: there are fewer layers", own.layer));
                continue;
            };
            let (op, head) = (graph.nodes[own.layer].op.clone(), own.projection);
            let bias = groups[their.layer].tensors.get("bias").map(|(_, values)| values.clone());
            let group = &groups[their.layer];
            for parameter in &mut graph.nodes[own.layer].parameters {
                taken.values += assign(parameter, group, &op, head, (&self.classes, classes), &mut left);
            }
            if let (Some(table), Some(their)) = (own.table, their.table) {
                for parameter in &mut graph.nodes[table].parameters {
                    taken.values +=
                        assign_rows(parameter, &groups[their], 0, (&self.classes, classes), &mut left);
                }
            }
            match (own.norm, their.norm) {
                (Some(norm), Some(their)) => {
                    let op = graph.nodes[norm].op.clone();
                    for parameter in &mut graph.nodes[norm].parameters {
                        taken.values += assign(parameter, &groups[their], &op, false, (&[], &[]), &mut left);
                    }
                }
                (Some(norm), None) => {
                    let Op::Norm { channels, .. } = graph.nodes[norm].op else { continue };
                    // a dense layer's features are the pixels of the channels
                    if let Some(bias) = bias.filter(|bias| bias.len().is_multiple_of(channels)) {
                        let pixels = bias.len() / channels;
                        let mean = |values: &[f32]| values.iter().sum::<f32>() / pixels as f32;
                        folded.push((norm, bias.chunks(pixels).map(mean).collect()));
                        taken.values += 2 * channels;
                    }
                }
                (None, _) => {}
            }
        }
        taken.left.extend(left);
        folded
    }
}

/// A linear layer, and what follows it up to the next one.
struct Place {
    layer: usize,
    table: Option<usize>,
    norm: Option<usize>,
    /// Whether its rows are the first logit and one of each class.
    projection: bool,
}

fn linear_layers(nodes: &[Node]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        match (&node.op, places.last_mut()) {
            (op, _) if op.is_linear() => {
                places.push(Place { layer: index, table: None, norm: None, projection: false });
            }
            (Op::Norm { over: Over::Batch, .. }, Some(place)) => place.norm = Some(index),
            (Op::ClassRow { .. }, Some(place)) => place.table = Some(index),
            (Op::ClassProjection { .. }, Some(place)) => place.projection = true,
            _ => {}
        }
    }
    places
}

fn linear_groups(groups: &[Group]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        match places.last_mut() {
            Some(place) if group.has("table") => place.table = Some(index),
            Some(place) if group.has("variance") => place.norm = Some(index),
            _ if group.has("weight") => {
                places.push(Place { layer: index, table: None, norm: None, projection: false })
            }
            _ => {}
        }
    }
    places
}

/// The tensor of `group` that is called as `parameter` is in its layer.
fn tensor_for<'a>(parameter: &Parameter, group: &'a Group) -> Option<&'a (Vec<usize>, Vec<f32>)> {
    group.tensors.get(parameter.name.rsplit('.').next().unwrap_or_default())
}

/// Sets a parameter, if its tensor fits; returns how many trained values were set.
fn assign(
    parameter: &mut Parameter,
    group: &Group,
    op: &Op,
    projection: bool,
    classes: (&[String], &[String]),
    left: &mut Vec<String>,
) -> usize {
    if projection {
        return assign_rows(parameter, group, 1, classes, left);
    }
    let Some((shape, values)) = tensor_for(parameter, group) else {
        // a bias that a batch norm stands for
        return 0;
    };
    if *shape == parameter.shape {
        parameter.value.clone_from(values);
    } else if let Some(found) = collapsed(op, shape, values) {
        parameter.value = found;
    } else {
        left.push(format!("{} is {:?} here and {shape:?} there", parameter.name, parameter.shape));
        return 0;
    }
    if parameter.trained { parameter.value.len() } else { 0 }
}

/// Sets the first `common` rows, and those of classes that have the same name.
fn assign_rows(
    parameter: &mut Parameter,
    group: &Group,
    common: usize,
    (theirs, ours): (&[String], &[String]),
    left: &mut Vec<String>,
) -> usize {
    let Some((shape, values)) = tensor_for(parameter, group) else { return 0 };
    if shape.is_empty() || parameter.shape.is_empty() || shape[1..] != parameter.shape[1..] {
        left.push(format!("{} is {:?} here and {shape:?} there", parameter.name, parameter.shape));
        return 0;
    }
    let row = values.len() / shape[0].max(1);
    let pairs = (0..common).map(|index| (index, index)).chain(ours.iter().enumerate().filter_map(
        |(index, class)| {
            let their = theirs.iter().position(|name| name == class)?;
            Some((common + index, common + their))
        },
    ));
    let mut taken = 0;
    let mut missing = ours.iter().filter(|class| !theirs.contains(class)).peekable();
    if let Some(first) = missing.peek() {
        left.push(format!("{}: class {first} is new", parameter.name));
    }
    for (own, their) in pairs {
        let (Some(to), Some(from)) =
            (parameter.value.get_mut(own * row..(own + 1) * row), values.get(their * row..(their + 1) * row))
        else {
            continue;
        };
        to.copy_from_slice(from);
        taken += row;
    }
    taken
}

/// The weight (outputs, inputs, k, k) of an upsampling layer from the transposed convolution, (inputs, outputs, k + 1,
/// k + 1), that it is in a file.
fn collapsed(op: &Op, shape: &[usize], values: &[f32]) -> Option<Vec<f32>> {
    /// Largest difference that rounding can explain, of the largest weight.
    const TOLERANCE: f32 = 1e-3;
    let Op::UpsampleConv { inputs, outputs, kernel } = *op else { return None };
    let (taps, places) = (kernel * kernel, (kernel + 1) * (kernel + 1));
    if shape != [inputs, outputs, kernel + 1, kernel + 1] {
        return None;
    }
    // column t: what a tap alone expands to
    let expansion = nalgebra::DMatrix::from_column_slice(places, taps, &upsample::matrix(kernel));
    let inverse = expansion.clone().pseudo_inverse(1e-6).ok()?;
    let mut found = vec![0f32; outputs * inputs * taps];
    for input in 0..inputs {
        for output in 0..outputs {
            let from = &values[(input * outputs + output) * places..][..places];
            let own = &inverse * nalgebra::DVector::from_column_slice(from);
            found[(output * inputs + input) * taps..][..taps].copy_from_slice(own.as_slice());
        }
    }
    let again = upsample::expand(&found, (outputs, inputs, kernel));
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let fits = again.iter().zip(values).all(|(again, value)| (again - value).abs() <= TOLERANCE * largest);
    fits.then_some(found)
}

/// The layers with weights of an ONNX network, in the layouts of [`Op`].
fn groups_of(graph: &Graph) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut heads = Vec::new();
    for node in &graph.nodes {
        if node.parameters.is_empty() {
            continue;
        }
        let named = node.op.parameters(None).into_iter().zip(&node.parameters).map(|(spec, parameter)| {
            (spec.name.to_string(), (parameter.shape.clone(), parameter.value.clone()))
        });
        let group = Group { tensors: named.collect() };
        // an encoder's mean and log-variance are rows of one layer in training
        match graph.outputs.iter().position(|output| *output == node.output) {
            Some(place) if node.op.is_linear() && graph.outputs.len() > 1 => heads.push((place, group)),
            _ => groups.push(group),
        }
    }
    heads.sort_by_key(|(place, _)| *place);
    if let Some((_, mut first)) = heads.first().cloned() {
        for (_, group) in &heads[1..] {
            for (name, (shape, values)) in &group.tensors {
                if let Some((whole, all)) = first.tensors.get_mut(name) {
                    whole[0] += shape[0];
                    all.extend(values);
                }
            }
        }
        groups.push(first);
    }
    groups
}

/// Gives batch norms back the scale and shift that a file has folded into the layers before them: `folded` are their
/// layers and the folded shifts; `batches` are inputs, from which the statistics are estimated.
///
/// With the folded weights before it, a norm leaves its input as it is, but for the shift, if its scale is the input's
/// deviation and its shift the input's mean and the folded shift. Norms are refitted in order, as each decides what the
/// next one sees.
///
/// # Errors
/// The device's.
pub fn refit_norms(
    network: &mut Network,
    mut folded: Vec<(usize, Vec<f32>)>,
    batches: &[ClassedRows],
) -> Result<()> {
    folded.sort_by_key(|(layer, _)| *layer);
    for (layer, bias) in folded {
        network.estimate_statistics(batches)?;
        let parameters = network.graph.nodes[layer].parameters.as_mut_slice();
        let [scale, shift, mean, variance] = parameters else { continue };
        for (channel, bias) in bias.iter().enumerate() {
            scale.value[channel] = (variance.value[channel] + EPSILON as f32).sqrt();
            shift.value[channel] = mean.value[channel] + bias;
        }
    }
    network.estimate_statistics(batches)
}

/// Rows of latents with classes in turn, for [`refit_norms`].
pub fn latent_batches<W>(graph: &Graph<W>, batches: usize, rows: usize) -> Vec<ClassedRows> {
    let (latent, classes) = (graph.input_shape().values(), graph.classes() as u32);
    let batch = |index: usize| {
        let first = index * rows;
        let latents = edgegen_runtime::generate::Latents::from_seed(0, first as u64, rows, latent, 1.0);
        let told = (classes > 0)
            .then(|| (0..rows).map(|row| (first + row) as u32 % classes).collect::<Arc<[u32]>>());
        (latents.values().to_vec(), told)
    };
    (0..batches).map(batch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{Backend, Lanes};
    use crate::graph::Activation;
    use crate::graph::Shape;

    fn generator(side: usize, channels: usize, classes: usize, seed: u64) -> Graph {
        let mut layers = vec![Op::Dense { inputs: 6, outputs: 8 * side * side / 4 }];
        if classes > 0 {
            layers.push(Op::ClassRow { classes, features: 8 * side * side / 4 });
        }
        layers.extend([
            Op::Reshape(Shape::Image(8, side / 2, side / 2)),
            Op::batch_norm(8),
            Op::Activation(Activation::Relu),
            Op::UpsampleConv { inputs: 8, outputs: channels, kernel: 3 },
            Op::Activation(Activation::Tanh),
        ]);
        Graph::chain("generator", Shape::Vector(6), layers).unwrap().initialise(seed, 0)
    }

    fn weights(graph: &Graph, classes: &[&str]) -> Weights {
        let mut layers: BTreeMap<usize, Group> = BTreeMap::new();
        for parameter in graph.parameters() {
            let words: Vec<&str> = parameter.name.split('.').collect();
            let group = layers.entry(words[1].parse().unwrap()).or_default();
            group.tensors.insert(words[2].into(), (parameter.shape.clone(), parameter.value.clone()));
        }
        let parts = BTreeMap::from([("generator".to_string(), layers.into_values().collect())]);
        let classes = classes.iter().map(|class| (*class).to_string()).collect();
        Weights { origin: "test".into(), parts, classes }
    }

    #[test]
    fn the_same_network_is_taken_over_whole() {
        let from = generator(8, 3, 0, 1);
        let mut to = generator(8, 3, 0, 2);
        let mut taken = Taken::default();
        let folded = weights(&from, &[]).give("generator", &mut to, &[], &mut taken);
        assert!(folded.is_empty() && taken.left.is_empty(), "{taken:?}");
        assert_eq!(taken.values, taken.of);
        for (from, to) in from.parameters().zip(to.parameters()) {
            assert_eq!(from.value, to.value, "{}", from.name);
        }
        let mut none = Taken::default();
        weights(&from, &[]).give("discriminator", &mut to, &[], &mut none);
        assert!(none.values == 0 && none.left[0].contains("discriminator"), "{none:?}");
    }

    #[test]
    fn what_does_not_fit_is_named_and_classes_go_by_their_names() {
        let from = generator(8, 3, 2, 1);
        let names = ["cat".to_string(), "dog".to_string(), "cow".to_string()];
        let mut to = generator(8, 1, 3, 2);
        let before = to.clone();
        let mut taken = Taken::default();
        weights(&from, &["dog", "cat"]).give("generator", &mut to, &names, &mut taken);
        // cat is row 1 there and row 0 here, cow is new
        let table = |graph: &Graph| graph.nodes[1].weight().to_vec();
        let row = 8 * 16;
        assert_eq!(table(&to)[..row], table(&from)[row..2 * row]);
        assert_eq!(table(&to)[row..2 * row], table(&from)[..row]);
        assert_eq!(table(&to)[2 * row..], table(&before)[2 * row..]);
        let left = taken.left.join("; ");
        assert!(left.contains("cow") && left.contains("[1, 8, 3, 3] here and [3, 8, 3, 3] there"), "{left}");
        // pictures of another size: the layer next to the picture is taken, the dense one is not
        let mut larger = generator(16, 3, 0, 2);
        let mut taken = Taken::default();
        weights(&generator(8, 3, 0, 1), &[]).give("generator", &mut larger, &[], &mut taken);
        assert_eq!(larger.nodes[4].weight(), generator(8, 3, 0, 1).nodes[4].weight());
        assert!(taken.left.iter().any(|line| line.starts_with("generator.0.weight")), "{taken:?}");
    }

    #[test]
    fn a_generator_comes_back_from_its_file_with_its_norms() {
        use crate::graph::Heads;
        use crate::graph::prepare::Form;
        let mut from = generator(8, 3, 2, 1);
        // a norm that does something
        for (index, parameter) in from.parameters_mut().enumerate() {
            if parameter.name.ends_with("scale") || parameter.name.ends_with("shift") {
                let values = parameter.value.iter_mut().enumerate();
                values.for_each(|(c, value)| *value += 0.1 * (c + index) as f32);
            }
        }
        let batches = latent_batches(&from, 8, 64);
        let mut from = Network::new(&Lanes, &from).unwrap();
        from.estimate_statistics(&batches).unwrap();
        let heads = Heads { outputs: vec![("image", Shape::Image(3, 8, 8))], tap: None };
        let graph = from.graph.exported("generator", "latent", &heads, Default::default()).unwrap();
        let graph = graph.prepare(Form::Transposed).unwrap();
        let parts = BTreeMap::from([("generator".to_string(), groups_of(&graph))]);
        let classes = vec!["cat".to_string(), "dog".to_string()];
        let file = Weights { origin: "file".into(), parts, classes: classes.clone() };
        let mut to = generator(8, 3, 2, 2);
        let mut taken = Taken::default();
        let folded = file.give("generator", &mut to, &classes, &mut taken);
        assert!(taken.left.is_empty(), "{taken:?}");
        assert_eq!((folded.len(), taken.values), (1, taken.of));
        let mut to = Network::new(&Lanes, &to).unwrap();
        refit_norms(&mut to, folded, &batches).unwrap();
        let (latents, classes) = &batches[3];
        let (expected, found) = (
            from.infer(latents, classes.as_deref()).unwrap(),
            to.infer(latents, classes.as_deref()).unwrap(),
        );
        let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 1e-3, "{worst}");
        // and in training, by a batch's own statistics
        let record = |network: &Network| {
            let batch = Lanes.tensor(latents, Shape::Vector(6)).unwrap();
            let output = network.graph.output();
            network.clone().train(batch, classes.as_deref(), output, &[]).unwrap().0.to_rows()
        };
        let worst = record(&from).iter().zip(&record(&to)).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 0.05, "{worst}");
    }
}
