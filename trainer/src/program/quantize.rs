//! `edgegen-train quantize MODEL --out PATH`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use edgegen_runtime::arguments::Foreign;
use edgegen_runtime::files::{check_writable, write_atomically};
use edgegen_runtime::model::{ImageShape, ModelFolder, OpenOptions, Precision};
use edgegen_runtime::pictures::write_npy;
use edgegen_trainer::data::{Dataset, Fit, LoadOptions, Size};
use edgegen_trainer::evaluate::cache;
use edgegen_trainer::export::add_precisions;
use edgegen_trainer::export::precisions::{Request, Source};
use edgegen_trainer::quantize::Inputs;
use edgegen_trainer::train::teacher::has_taught;

use super::precisions;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A model folder, or an ONNX file in float32, of any maker, that draws pictures or encodes them.
    model: PathBuf,
    /// The model folder, or the ONNX file, to write.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// In which precisions; one, if --out is a file. fp32 writes a file in the form that int8 has: transposed
    /// convolutions as convolutions.
    #[arg(long, value_name = "P,…", value_delimiter = ',', default_value = "int8")]
    precision: Vec<Precision>,
    /// Pictures that an encoder is calibrated on: a folder of images or of IDX files.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// How pictures of other proportions come to the network's: crop the centre, pad with white, or stretch.
    #[arg(long, value_name = "crop|pad|stretch", default_value_t = Fit::Crop)]
    fit: Fit,
    #[command(flatten)]
    foreign: Foreign,
    /// Keep what an ONNX file is calibrated and compared on, for other tools: .npy arrays in this folder.
    #[arg(long, value_name = "FOLDER")]
    inputs: Option<PathBuf>,
    /// Replace --out if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    precisions: precisions::Arguments,
    #[command(flatten)]
    judged: precisions::Judged,
}

/// Writes and checks files in other precisions.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    let request = arguments.precisions.request(arguments.precision.clone())?;
    if arguments.model.is_dir() { folder(&arguments, &request) } else { file(&arguments, &request) }
}

fn folder(arguments: &Arguments, request: &Request) -> Result<()> {
    let judged = arguments.judged.options()?;
    if judged.is_some() && arguments.data.is_none() {
        bail!("--features compares samples with pictures; give them with --data");
    }
    let model = ModelFolder::open(&arguments.model)?;
    let teacher = arguments.judged.is_teacher(|judge| has_taught(&model.manifest, judge))?;
    let dataset = match &arguments.data {
        Some(path) => {
            let part = model.manifest.parts.first().copied().context("the folder holds no network")?;
            let bytes = model.read_part(part, Some(Precision::Fp32))?;
            let image = Source::open(bytes, &part.to_string(), &OpenOptions::default())?.taken();
            Some(load(path, image, arguments.fit)?)
        }
        None => None,
    };
    let bar = precisions::spinner();
    let report =
        add_precisions(&model, dataset.as_ref(), (&arguments.out, arguments.force), request, &|what| {
            bar.set_message(what.to_string());
        });
    bar.finish_and_clear();
    let report = report?;
    precisions::show(&report.others, &report.manifest, &arguments.out);
    if let (Some(options), Some(dataset)) = (judged, &dataset) {
        arguments.judged.judge(&arguments.out, dataset, &options, teacher)?;
    }
    Ok(())
}

fn file(arguments: &Arguments, request: &Request) -> Result<()> {
    let [precision] = request.precisions[..] else {
        bail!("--out is one file; give one --precision, or a model folder");
    };
    if arguments.out.exists() && !arguments.force {
        bail!("{} exists; choose another --out, or --force replaces it", arguments.out.display());
    }
    check_writable(&arguments.out)?;
    let path = &arguments.model;
    let options = arguments.foreign.options()?;
    let source = Source::read(path, &options)?;
    let size = source.size();
    let inputs = match source.latents(request) {
        Some(inputs) => inputs,
        None => {
            let dataset = arguments.data.as_ref().map(|path| load(path, source.taken(), arguments.fit));
            source.pictures(dataset.transpose()?.as_ref(), request)?
        }
    };
    if let Some(folder) = &arguments.inputs {
        keep(&inputs, folder)?;
    }
    if precision == Precision::Fp32 {
        let bytes = source.prepared(&inputs[1])?;
        write_atomically(&arguments.out, |out| out.write_all(&bytes))?;
        say!("{} {} bytes", arguments.out.display(), bytes.len());
        return Ok(());
    }
    let bar = precisions::spinner();
    let made = source.make(request, &inputs, &|what| bar.set_message(what.to_string()));
    bar.finish_and_clear();
    for made in made? {
        write_atomically(&arguments.out, |out| out.write_all(&made.bytes))?;
        say!("{}, {} against fp32: {}", source.part(), made.precision, made.quality);
        if let Some(report) = &made.report {
            precisions::show_report(report);
            report.write(&arguments.out.with_extension(""))?;
        }
        let part = 100.0 * made.bytes.len() as f64 / size as f64;
        say!("{} {} bytes, {part:.1} % of {}", arguments.out.display(), made.bytes.len(), path.display());
    }
    Ok(())
}

/// Writes what a file is calibrated and compared on: `calibration.npy`, `held-out.npy` (N, input…), and their classes.
fn keep([calibration, held_out]: &[Inputs; 2], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, inputs) in [("calibration", calibration), ("held-out", held_out)] {
        let mut shape = vec![inputs.count];
        shape.extend(inputs.shape.dims());
        write_npy(&folder.join(format!("{name}.npy")), &shape, &inputs.rows)?;
        if let Some(classes) = &inputs.classes {
            let classes: Vec<f32> = classes.iter().map(|class| *class as f32).collect();
            write_npy(&folder.join(format!("{name}-classes.npy")), &[inputs.count], &classes)?;
        }
    }
    Ok(())
}

fn load(path: &Path, image: ImageShape, fit: Fit) -> Result<Dataset> {
    let options = LoadOptions {
        gray: image.channels == 1,
        fit,
        cache: cache::default_folder(),
        ..LoadOptions::new(Size::of(image))
    };
    super::data::load(Some(path), &options)
}
