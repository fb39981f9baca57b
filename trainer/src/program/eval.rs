//! `edgegen-train eval RUN`

use std::io::Write;

use anyhow::{Context, Result};
use edgegen_runtime::files::{check_writable, write_atomically};
use edgegen_trainer::evaluate::{self, HeldOut};
use edgegen_trainer::train::run::{RunFolder, Trained};
use indicatif::ProgressBar;
use serde_json::{Map, Value};

use super::RunArguments;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    run: RunArguments,
    /// Posterior samples per picture of the importance-weighted log-likelihood (1 to 5000).
    #[arg(long, value_name = "K", default_value_t = 100)]
    samples: usize,
    /// Use only the first N test pictures; 0: all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the test ELBO and the importance-weighted log-likelihood.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    evaluate::check_samples(arguments.samples)?;
    let folder = arguments.run.folder()?;
    check_writable(&folder.evaluation())?;
    let trained = arguments.run.open(&folder)?;
    let (objective, dataset) = (&trained.config.objective, &trained.dataset);
    let held_out = HeldOut::new(&trained.vae, objective, dataset.shape, &dataset.test, arguments.limit);
    let bound = held_out.bound();
    let bar = ProgressBar::new(held_out.count() as u64);
    let weighted = held_out.importance_weighted(arguments.samples, || bar.inc(1))?;
    bar.finish_and_clear();
    let object = serde_json::json!({
        "checkpoint_sha256": trained.checkpoint_sha256, "step": trained.position.step,
        "pictures": weighted.pictures, "elbo": bound.elbo, "reconstruction": bound.reconstruction, "kl": bound.kl,
        "samples": weighted.samples, "log_likelihood": weighted.mean, "standard_error": weighted.standard_error,
    });
    if arguments.json {
        say!("{object}");
    } else {
        say!(
            "{} test pictures of {}, weights of step {}",
            weighted.pictures,
            dataset.name,
            trained.position.step
        );
        say!(
            "ELBO            {:>9.3} nats (reconstruction {:.3}, KL {:.3})",
            bound.elbo,
            bound.reconstruction,
            bound.kl
        );
        say!(
            "log-likelihood  {:>9.3} nats ± {:.3} (importance-weighted, {} samples)",
            weighted.mean,
            weighted.standard_error,
            weighted.samples
        );
    }
    if arguments.limit == 0 {
        // what export puts on the card; a part of the pictures is no figure for that
        let text = format!("{object:#}\n");
        write_atomically(&folder.evaluation(), |out| out.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// What an earlier evaluation of these very weights found.
pub(super) fn stored(folder: &RunFolder, trained: &Trained) -> Result<Option<Map<String, Value>>> {
    let path = folder.evaluation();
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let found: Map<String, Value> =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let same = found.get("checkpoint_sha256").and_then(Value::as_str) == Some(&trained.checkpoint_sha256);
    Ok(same.then_some(found))
}
