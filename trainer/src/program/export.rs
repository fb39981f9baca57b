//! `edgegen-train export RUN --out DIR`

use std::path::PathBuf;

use anyhow::Result;
use edgegen_runtime::model::{Kind, Precision};
use edgegen_trainer::export::export;
use edgegen_trainer::train::teacher::taught_by;
use edgegen_trainer::train::trained::Need;

use super::{RunArguments, precisions};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    run: RunArguments,
    /// The model folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The model's name; without it: the folder's.
    #[arg(long)]
    name: Option<String>,
    /// Replace --out if it exists.
    #[arg(long)]
    force: bool,
    /// Which files to write; fp32 is always written.
    #[arg(long, value_name = "P,…", value_delimiter = ',', default_value = "fp32,fp16,int8")]
    precision: Vec<Precision>,
    #[command(flatten)]
    precisions: precisions::Arguments,
    #[command(flatten)]
    judged: precisions::Judged,
}

/// Writes and checks a model folder.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    let folder = arguments.run.folder()?;
    let run = arguments.run.open(&folder, Need::IfThere)?;
    let name = arguments.name.or_else(|| Some(arguments.out.file_name()?.to_string_lossy().into_owned()));
    let evaluation = super::eval::stored(&folder, &run)?;
    let judged = arguments.judged.options()?;
    let teacher = arguments.judged.is_teacher(|judge| taught_by(&run.config.objective, judge))?;
    let request = arguments.precisions.request(arguments.precision)?;
    let bar = precisions::spinner();
    let report = export(
        &run,
        name.as_deref().unwrap_or("model"),
        evaluation.as_ref(),
        (&arguments.out, arguments.force),
        &request,
        &|what| bar.set_message(what.to_string()),
    );
    bar.finish_and_clear();
    let report = report?;
    for (part, difference, tolerance) in &report.differences {
        say!("{part}: trainer and runtime differ by at most {difference:.2e} (accepted: {tolerance:.0e})");
    }
    precisions::show(&report.others, &report.manifest, &arguments.out);
    if let (Some(options), Some(_)) = (judged, run.drawer()) {
        arguments.judged.judge(&arguments.out, &run.dataset, &options, teacher)?;
    }
    let out = arguments.out.display();
    match run.drawer() {
        Some(_) => say!("next: edgegen generate {out} --seed 7 --count 16 --out pictures.png"),
        None if report.manifest.kind == Kind::Transform => {
            say!("next: edgegen transform {out} PICTURE --out picture.png");
        }
        None => say!("next: edgegen-train compare --samples … --features {out}/classifier.fp32.onnx"),
    }
    Ok(())
}
