//! The exported file against the trained network: the same inputs through the runtime and through
//! the trainer.

use edgegen_runtime::generate::Latents;
use edgegen_runtime::model::{Model, OpenOptions, Part, Range};

use crate::data;
use crate::evaluate::network::{FeatureNetwork, OutputChoice};
use crate::evaluate::{HeldOut, spread};
use crate::graph::{Graph, Op};
use crate::objective::transform::Examples;
use crate::train::trained::{Trained, TrainedRun};
use crate::{Error, Result};

/// Largest accepted difference of any output value: two orders above what reordering a few thousand
/// f32 additions of values around 1 gives, and far below one grey level (4·10⁻³).
const TOLERANCE: f64 = 1e-4;
/// The same of a network that compares latents with codes: rounding of scores around 100 becomes ten times that of shares.
const OF_CODES: f64 = 1e-3;

/// Largest accepted difference of any output value of a graph.
pub(super) fn tolerance(graph: &Graph) -> f64 {
    if graph.nodes.iter().any(|node| node.op == Op::Softmax) { OF_CODES } else { TOLERANCE }
}

/// Inputs that are compared.
const INPUTS: usize = 64;

/// The largest absolute difference over all outputs of the file `bytes`; of a classifier, whose values are not
/// bounded, as a part of the largest value.
pub(super) fn compare(run: &TrainedRun, part: Part, bytes: &[u8], file: &str) -> Result<f64> {
    let open = || Model::from_bytes(bytes, file, &OpenOptions::default());
    match &run.trained {
        Trained::Vae(vae, objective) if part == Part::Encoder => {
            let (shape, (pictures, _)) = (run.dataset.shape, run.dataset.report_part());
            let held_out = HeldOut::new(vae, objective, shape, pictures, INPUTS);
            let count = held_out.count();
            let images = held_out.batch(0..count).seen;
            let both = vae.encoder.infer(&images, None)?;
            let posterior = open()?.into_encoder(count)?.run(&images)?;
            let rows = posterior.mean.chunks(vae.latent).zip(posterior.log_variance.chunks(vae.latent));
            let found: Vec<f32> =
                rows.flat_map(|(mean, log_variance)| [mean, log_variance].concat()).collect();
            largest_difference(&both, &found)
        }
        Trained::Classifier(classifier) => {
            let (network, (pictures, _)) = (&classifier.network, run.dataset.report_part());
            let images =
                data::batch(Range::Unit, run.dataset.shape, pictures, spread(pictures.count(), INPUTS));
            let mut worst = 0f64;
            let last = network.graph.nodes.last().ok_or_else(|| Error::Export("it has no layers".into()))?;
            for (output, value) in [("features", last.inputs[0]), ("logits", last.output)] {
                let file = FeatureNetwork::from_bytes(bytes, file, OutputChoice::Named(output))?;
                let expected = network.infer_value(&images, None, value)?;
                let mut found = vec![0f32; expected.len()];
                file.runner()?.run(&images, &mut found)?;
                let largest = expected.iter().fold(1f32, |largest, value| largest.max(value.abs()));
                worst = worst.max(largest_difference(&expected, &found)? / f64::from(largest));
            }
            Ok(worst)
        }
        Trained::Transform(restorer, objective) => {
            let (pictures, _) = run.dataset.report_part();
            let indices: Vec<usize> = spread(pictures.count(), INPUTS).collect();
            let examples = Examples::pieces(objective, &run.material(pictures), &indices, (0, 0))?;
            let options = OpenOptions {
                size: Some((
                    restorer.network.input_shape().image().1,
                    restorer.network.input_shape().image().2,
                )),
                ..OpenOptions::default()
            };
            let expected = restorer.network.infer(&examples.seen, None)?;
            let mut file = Model::from_bytes(bytes, file, &options)?.into_transformer(1)?;
            largest_difference(&expected, file.run(&examples.seen)?)
        }
        Trained::Vae(..) | Trained::Generator(_) => {
            let Some(mut drawer) = run.drawer() else {
                return Err(Error::Export(format!("{file} draws nothing")));
            };
            if let (Trained::Vae(vae, _), Part::Decoder) = (&run.trained, part) {
                drawer.network = &vae.decoder;
            }
            let latents = Latents::from_seed(run.config.training.seed, 0, INPUTS, drawer.latent(), 1.0);
            let classes = drawer.classes(INPUTS);
            let expected = drawer.values(latents.values(), classes.as_deref())?;
            let mut generator = open()?.into_generator(INPUTS)?;
            largest_difference(&expected, generator.run(latents.values(), &classes.unwrap_or_default())?)
        }
    }
}

fn largest_difference(expected: &[f32], found: &[f32]) -> Result<f64> {
    if expected.len() != found.len() {
        return Err(Error::Export(format!(
            "the file gives {} values, the network {}",
            found.len(),
            expected.len()
        )));
    }
    // NaN must not pass as "no difference"
    let worse = |worst: f64, (a, b): (&f32, &f32)| {
        let difference = f64::from((a - b).abs());
        if difference.is_nan() || difference > worst { difference } else { worst }
    };
    Ok(expected.iter().zip(found).fold(0.0, worse))
}
