//! `edgegen-train zoo`

use std::path::PathBuf;

use anyhow::{Result, bail};
use edgegen_runtime::files::check_writable;
use edgegen_runtime::model::Precision;
use edgegen_trainer::evaluate::features::NetworkChoice;
use edgegen_trainer::export::costs::{Beside, measure, results};
use edgegen_trainer::export::ship::ship;
use edgegen_trainer::export::zoo::{Again, folders, table, verify};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Look whether model folders are what their cards say: files and their hashes, the picture that they draw, and with
    /// --data and --judge the figures of their samples.
    Verify(Verify),
    /// Measure how long model folders' files take on this machine and how much memory, by `edgegen bench`, and write it
    /// into their cards.
    Measure {
        /// The folder of model folders.
        #[arg(default_value = "models")]
        folder: PathBuf,
        /// Only this model.
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
        /// The program edgegen [default: the one beside this]
        #[arg(long, value_name = "PATH")]
        edgegen: Option<PathBuf>,
    },
    /// Copy a model folder with some of its precisions, without what only training needs.
    Ship {
        /// The model folder.
        model: PathBuf,
        /// The folder to write.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Replace --out if it exists.
        #[arg(long)]
        force: bool,
        /// Which files to copy; the card tells of the others.
        #[arg(long, value_name = "P,…", value_delimiter = ',', default_value = "fp32,int8")]
        precision: Vec<Precision>,
    },
    /// Write a page with plots of what model folders cost and are worth, by their cards: bytes, latency, memory, quality.
    Results {
        /// The folder of model folders.
        #[arg(default_value = "models")]
        folder: PathBuf,
        /// The page; its pictures lie beside it.
        #[arg(long, value_name = "F.md")]
        out: PathBuf,
        /// Others' samples to tell of: what drew them, and what compare --json found; may be repeated.
        #[arg(long, value_name = "NAME=REPORT.json")]
        beside: Vec<String>,
    },
    /// Print a table of model folders in Markdown, with figures of their cards.
    Table {
        /// The folder of model folders.
        #[arg(default_value = "models")]
        folder: PathBuf,
    },
}

#[derive(clap::Args)]
struct Verify {
    /// The folder of model folders.
    #[arg(default_value = "models")]
    folder: PathBuf,
    /// The folder in which data sets lie by their names.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// A network that figures were measured by, and its input's scaling after a space, for example
    /// "lite1.onnx mean=127,scale=128"; may be repeated. Classifiers in the folder are there already.
    #[arg(long, value_name = "F.onnx [SCALING]", requires = "data")]
    judge: Vec<String>,
}

/// Does it.
pub(super) fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Table { folder } => {
            say!("{}", table(&folders(&folder)?)?.trim_end());
            Ok(())
        }
        Command::Measure { folder, only, edgegen } => {
            let edgegen = match edgegen {
                Some(path) => path,
                None => std::env::current_exe()?
                    .with_file_name(format!("edgegen{}", std::env::consts::EXE_SUFFIX)),
            };
            let all = folders(&folder)?;
            let wanted = |path: &&PathBuf| only.as_ref().is_none_or(|name| path.ends_with(name));
            let chosen: Vec<&PathBuf> = all.iter().filter(wanted).collect();
            if chosen.is_empty() {
                bail!("{}: there is no model {}", folder.display(), only.unwrap_or_default());
            }
            for path in chosen {
                measure(path, &edgegen)?;
                say!("{}", path.display());
            }
            Ok(())
        }
        Command::Ship { model, out, force, precision } => {
            for file in ship(&model, (&out, force), &precision)?.files {
                say!("{} {} bytes", out.join(file.file).display(), file.bytes);
            }
            Ok(())
        }
        Command::Results { folder, out, beside } => {
            check_writable(&out)?;
            let others = beside.iter().map(|told| match told.split_once('=') {
                Some((name, report)) => Ok(Beside { name: name.into(), report: report.into() }),
                None => bail!("--beside {told}: give NAME=REPORT.json"),
            });
            Ok(results(&folders(&folder)?, &others.collect::<Result<Vec<_>>>()?, &out)?)
        }
        Command::Verify(arguments) => look(&arguments),
    }
}

/// Prints what is found; fails if anything is wrong.
fn look(arguments: &Verify) -> Result<()> {
    let all = folders(&arguments.folder)?;
    let mut judges: Vec<NetworkChoice> = all
        .iter()
        .map(|folder| folder.join("classifier.fp32.onnx"))
        .filter(|path| path.is_file())
        .map(|path| NetworkChoice { path, ..NetworkChoice::default() })
        .collect();
    for judge in &arguments.judge {
        judges.push(judge.parse()?);
    }
    let again = Again { data: arguments.data.as_deref(), judges };
    let mut wrong = 0;
    for folder in all {
        for finding in verify(&folder, &again)? {
            let verdict = finding.problem.as_deref().unwrap_or("as the card says");
            wrong += usize::from(finding.problem.is_some());
            say!("{:24} {:28} {verdict}", finding.model, finding.what);
        }
    }
    if wrong > 0 {
        bail!("{wrong} of these are not what the cards say");
    }
    Ok(())
}
