//! `edgegen-train features`

use std::path::PathBuf;

use anyhow::{Context, Result};
use edgegen_trainer::evaluate::features::Scaling;
use edgegen_trainer::export::features::{Cut, cut};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A convolutional network in ONNX: EfficientNet-Lite, MobileNetV2, ResNet, SqueezeNet, VGG, ….
    network: PathBuf,
    /// The model folder to make.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Replace it if it is there.
    #[arg(long)]
    force: bool,
    /// The network's input: unit (level / 255), signed (level / 127.5 - 1) or mean=M,scale=S, in levels.
    #[arg(long, value_name = "SCALING")]
    feature_input: Scaling,
    /// A text for the card: where the network comes from, and its licence.
    #[arg(long, value_name = "F.txt")]
    notice: PathBuf,
}

/// Cuts a network, and says what came of it.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    let read =
        |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let bytes = read(&arguments.network)?;
    let notice = String::from_utf8_lossy(&read(&arguments.notice)?).into_owned();
    let file = arguments.network.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = arguments.out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let command = format!(
        "edgegen-train features {file} --feature-input {} --notice NOTICE.txt --out {name}",
        arguments.feature_input
    );
    let what = Cut { source: (&bytes, &file), scaling: arguments.feature_input, notice: &notice, command };
    let length = cut(&what, &name, (&arguments.out, arguments.force))?;
    say!("{}: {length} bytes of weights; learn by it with --features", arguments.out.display());
    Ok(())
}
