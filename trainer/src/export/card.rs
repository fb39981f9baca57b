//! The card beside a model: what it is, how it was made, how good it is.

use std::fmt::Write;

use edgegen_runtime::model::Manifest;

use crate::train::run::{Trained, Which};
use crate::vae::{Binarize, Likelihood};

/// Sources and licences of data sets by name.
const LICENCES: [(&str, &str); 4] = [
    ("mnist", "MNIST (Y. LeCun, C. Cortes, C. Burges), usually quoted as CC BY-SA 3.0"),
    ("fashion-mnist", "Fashion-MNIST (Zalando SE), MIT"),
    ("fashion-mnist-embedded", "Fashion-MNIST (Zalando SE), MIT; the 2,000 pictures inside the program"),
    (
        "emoji64",
        "emoji drawings: Noto Emoji (Google, Apache-2.0), Twemoji (Twitter and contributors, CC BY 4.0), Fluent Emoji (Microsoft, MIT)",
    ),
];

/// Markdown.
pub(super) fn card(trained: &Trained, manifest: &Manifest) -> String {
    let (config, dataset) = (&trained.config, &trained.dataset);
    let licence = LICENCES
        .iter()
        .find(|(name, _)| *name == dataset.name)
        .map_or("unknown to edgegen: yours to say before you pass the model on", |(_, licence)| licence);
    let number = |key: &str| manifest.metrics.get(key).and_then(serde_json::Value::as_f64);
    let mut out = format!("# {}\n\n![samples](samples.png)\n\n", manifest.name);
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!(
        "A variational autoencoder: latents of {} values → pictures of {} (channels × height × width). The picture above is 64 samples of seed 0, drawn by the decoder's file.\n",
        trained.vae.latent, dataset.shape
    ));
    line("| file | bytes | parameters | MACs per picture | max difference to the trained network |".into());
    line("|---|---:|---:|---:|---:|".into());
    for file in &manifest.files {
        let part = file.part;
        line(format!(
            "| `{}` | {} | {} | {} | {:.1e} |",
            file.file,
            file.bytes,
            number(&format!("{part}_parameters")).unwrap_or_default(),
            number(&format!("{part}_macs")).unwrap_or_default(),
            number(&format!("{part}_{}_max_difference", file.precision)).unwrap_or_default(),
        ));
    }
    line("\n## How it was trained\n".into());
    line(format!("    {}\n", manifest.command));
    line(format!(
        "- data: {}: {} training, {} validation, {} test pictures; {licence}",
        dataset.name,
        dataset.train.count(),
        dataset.validation.count(),
        dataset.test.count()
    ));
    let target = match (config.objective.likelihood, config.objective.binarize) {
        (Likelihood::Bernoulli, Binarize::Stochastic) => {
            "Bernoulli likelihood of pictures binarised afresh at each visit (test pictures once, with a fixed seed)".into()
        }
        (Likelihood::Bernoulli, Binarize::No) => "Bernoulli cross-entropy of grey values".into(),
        (Likelihood::Gaussian, _) => format!("Gaussian likelihood with deviation {}", config.objective.sigma),
    };
    line(format!("- objective: ELBO with β = {}, {target}", config.objective.beta));
    if config.objective.denoise > 0.0 {
        line(format!(
            "- a denoiser: noise of deviation {} on what the encoder sees, clean pictures as target",
            config.objective.denoise
        ));
    }
    line(format!(
        "- seed {}, weights of step {} ({}), {:.0} s of training, {}",
        config.training.seed,
        trained.position.step,
        match trained.which {
            Which::Best => "best validation objective",
            Which::Last => "last checkpoint",
        },
        trained.position.seconds,
        manifest.producer
    ));
    line("\n## How good it is\n".into());
    line("Test pictures, nats per picture:\n".into());
    let mut metric = |name: &str, key: &str| {
        if let Some(value) = number(key) {
            line(format!("- {name}: {value:.2}"));
        }
    };
    metric("ELBO", "test_elbo");
    metric("reconstruction E_q[log p(x|z)]", "test_reconstruction");
    metric("KL(q(z|x)‖p(z))", "test_kl");
    if let (Some(value), Some(error), Some(samples), Some(pictures)) = (
        number("test_log_likelihood"),
        number("test_standard_error"),
        number("test_samples"),
        number("test_pictures"),
    ) {
        let _ = writeln!(
            out,
            "- log-likelihood: {value:.2} ± {error:.2} (importance-weighted, {samples} samples each, {pictures} pictures)"
        );
    }
    out
}
