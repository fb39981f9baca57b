//! The configurations that have a name.

use super::config::{Config, DataConfig, Objective, Schedule, TrainingConfig};
use crate::compute::adam::AdamConfig;
use crate::data::Size;
use crate::data::degrade::Shrink;
use crate::graph::Activation;
use crate::graph::family::{Architecture, NetworkConfig};
use crate::objective::classifier::ClassifierConfig;
use crate::objective::gan::GanConfig;
use crate::objective::gan::loss::Loss;
use crate::objective::transform::{Difference, TransformConfig, discriminator_base};
use crate::objective::vae::{Binarize, Likelihood, ObjectiveConfig};
use crate::{Error, Result};

/// Most pictures with a code that a generator maps to.
const MOST_CODES: usize = 10_000;

/// A named configuration.
pub struct Preset {
    /// One line for a list.
    pub about: &'static str,
    /// All defaults; `config.preset` is the name.
    pub config: Config,
}

/// Every preset.
pub fn all() -> Vec<Preset> {
    let data = DataConfig::new(Size::square(28), true);
    let network = NetworkConfig {
        architecture: Architecture::Mlp,
        latent: 2,
        hidden: vec![128, 128],
        base: 32,
        codes: 0,
        coarse: 0,
        fine: false,
        latent_side: 0,
        activation: Activation::Relu,
        conditional: false,
    };
    let objective = ObjectiveConfig {
        likelihood: Likelihood::Bernoulli,
        sigma: 0.1,
        binarize: Binarize::No,
        beta: 1.0,
        beta_warmup: 0,
        iwae: 1,
        free_bits: 0.0,
        denoise: 0.0,
        unlike: 0.0,
        features: String::new(),
        code_share: 0.8,
    };
    let training = TrainingConfig {
        pictures: 2_000_000,
        steps: 0,
        epochs: 0,
        hours: 0.0,
        batch: 100,
        seed: 0,
        learning_rate: 1e-3,
        final_rate: 1e-5,
        schedule: Schedule::Cosine,
        clip: 0.0,
        validate: 0,
        patience: 0.3,
        checkpoint_seconds: 60.0,
        init_from: String::new(),
    };
    let mlp = Config {
        preset: "vae-mlp".into(),
        data,
        network,
        objective: Objective::Vae(objective.clone()),
        training,
        adam: AdamConfig::default(),
    };

    let mut burda = mlp.clone();
    burda.preset = "vae-mlp-50".into();
    burda.network.latent = 50;
    burda.network.hidden = vec![200, 200];
    burda.network.activation = Activation::Tanh;
    burda.objective = Objective::Vae(ObjectiveConfig { binarize: Binarize::Stochastic, ..objective });
    (burda.training.pictures, burda.training.epochs) = (0, 3280);
    burda.training.patience = 0.0;
    burda.training.batch = 20;
    burda.training.schedule = Schedule::Staged;
    burda.adam.epsilon = 1e-4;

    let mut conv = mlp.clone();
    conv.preset = "vae-conv".into();
    conv.data.size = Size::square(64);
    conv.data.gray = false;
    conv.network.architecture = Architecture::Conv;
    conv.network.latent = 32;
    conv.network.hidden = vec![256];

    // each latent value keeps its place; the deviation of the pixels is learned, and the prior fitted afterwards
    let mut places = conv.clone();
    places.preset = "vae-64".into();
    places.network.hidden = Vec::new();
    (places.network.latent, places.network.latent_side) = (1024, 8);
    (places.network.base, places.network.coarse, places.network.fine) = (16, 1, true);
    places.network.codes = 1000;
    if let Objective::Vae(objective) = &mut places.objective {
        (objective.likelihood, objective.sigma) = (Likelihood::Gaussian, 0.0);
    }
    places.training.pictures = 400_000;

    let gan = |name: &str, side, base, objective| {
        let mut config = conv.clone();
        config.preset = name.into();
        config.data = DataConfig { size: Size::square(side), gray: side == 28, ..config.data };
        config.network.architecture = Architecture::Dcgan;
        config.network.latent = 100;
        config.network.hidden = Vec::new();
        config.network.base = base;
        config.objective = Objective::Gan(objective);
        config.training.batch = 64;
        config.training.learning_rate = 2e-4;
        config.training.schedule = Schedule::Constant;
        config.adam.beta1 = 0.5;
        config
    };
    // the paper's game, with PyTorch's example's learning rate
    let textbook = GanConfig::textbook();
    // real pictures have codes, and nothing plays against the generator
    let coded = GanConfig { loss: Loss::Matching, matching: 1.0, ..textbook.clone() };
    let of_codes = |name: &str, side, base| {
        let mut config = gan(name, side, base, coded.clone());
        config.network.architecture = Architecture::Upsample;
        config.network.latent = 64;
        config.network.codes = MOST_CODES;
        config.training.pictures = 1_000_000;
        config.training.learning_rate = 4e-4;
        config.training.final_rate = 2e-5;
        config.training.schedule = Schedule::Linear;
        config
    };
    let with_details = |name: &str, side, base| {
        let mut config = of_codes(name, side, base);
        (config.network.coarse, config.network.fine) = (1, true);
        config
    };

    let mut classifier = conv.clone();
    classifier.preset = "classifier".into();
    classifier.data = DataConfig { size: Size::square(28), gray: true, ..classifier.data };
    classifier.network.latent = 128;
    classifier.network.hidden = Vec::new();
    classifier.objective = Objective::Classifier(ClassifierConfig { shift: 2 });
    classifier.training.pictures = 800_000;
    classifier.training.batch = 128;

    let of_sounds = |mut config: Config| {
        config.data.size = Size::square(64);
        config.data.gray = true;
        (config.data.rate, config.data.window, config.data.hop) = (8000, 256, 80);
        config
    };
    let transform = |name: &str, architecture, base, blocks: &[usize], objective| {
        let mut config = conv.clone();
        config.preset = name.into();
        config.data.size = Size::square(180);
        config.data.gray = true;
        config.network.architecture = architecture;
        config.network.latent = 1;
        (config.network.base, config.network.hidden) = (base, blocks.to_vec());
        config.objective = Objective::Transform(objective);
        config.training.pictures = 1_000_000;
        config.training.batch = 32;
        config.training.validate = 16;
        config.training.final_rate = 2e-6;
        config.training.patience = 0.0;
        config
    };
    let clean = TransformConfig {
        scale: 1,
        patch: 64,
        difference: Difference::L2,
        blur: [0.0; 2],
        shrink: Shrink::Bicubic,
        noise: [0.0; 2],
        jpeg: [0; 2],
        adversarial: 0.0,
        adversarial_from: 0.0,
        discriminator_base: discriminator_base(),
    };
    let restore = TransformConfig { noise: [0.0, 50.0], ..clean.clone() };
    let enlarge = |scale: usize| TransformConfig { scale, patch: 32 * scale, ..clean.clone() };

    let mlp_config = mlp;
    vec![
        Preset {
            about: "28x28 grey, dense 128-128, latent 2: the textbook VAE, with its latent grid",
            config: mlp_config.clone(),
        },
        Preset {
            about: "28x28 grey, 784-200-200, latent 50, tanh: the network and protocol of Burda et al. 2015",
            config: burda,
        },
        Preset {
            about: "strided convolutions, any size (28x28x1, 64x64x3, …): the one for a device",
            config: conv.clone(),
        },
        Preset {
            about: "VAE 64x64x3 of your own pictures: 1,024 latents in maps of 8x8, deviation learned, prior fitted",
            config: places,
        },
        Preset {
            about: "GAN 28x28 grey, transposed convolutions 7-14-28, base 64",
            config: gan("dcgan-28", 28, 64, textbook.clone()),
        },
        Preset {
            about: "GAN 32x32x3, transposed convolutions 4-8-16-32, base 64",
            config: gan("dcgan-32", 32, 64, textbook.clone()),
        },
        Preset {
            about: "GAN 64x64x3, transposed convolutions, base 64: the textbook DCGAN of Radford et al. 2016",
            config: gan("dcgan-64", 64, 64, textbook),
        },
        Preset {
            about: "GAN 28x28 grey of digits and the like: a code a picture, upsampling convolutions 7-14-28, 20 M MACs",
            config: {
                let mut config = with_details("gan-28", 28, 32);
                config.network.latent = 32;
                config.training.learning_rate = 6e-4;
                config
            },
        },
        Preset {
            about: "GAN 64x64x3 of your own pictures, from 16 on: a code a picture, upsampling convolutions, 69 M MACs",
            config: with_details("gan-64", 64, 20),
        },
        Preset {
            about: "GAN 64x64x3 as gan-64, with 27 M MACs: the one for a small device",
            config: of_codes("gan-64-slim", 64, 32),
        },
        Preset { about: "GAN 128x128x3 as gan-64, 120 M MACs", config: with_details("gan-128", 128, 12) },
        Preset {
            about: "28x28 grey, convolutions: tells classes apart, to judge samples by; needs classes",
            config: classifier.clone(),
        },
        Preset {
            about: "sounds of 0.65 s as spectrograms of 64x64: a GAN of WAV files in sub-folders, a class each; edgegen say",
            config: of_sounds(with_details("sound-gan", 64, 20)),
        },
        Preset {
            about: "the same sounds: tells classes apart, to judge what sound-gan says",
            config: of_sounds({
                let mut config = classifier.clone();
                config.preset = "sound-classifier".into();
                config.training.pictures = 200_000;
                config
            }),
        },
        Preset {
            about: "28x28 grey, a VAE that learns what is usual: edgegen score tells what is odd",
            config: {
                let mut config = conv.clone();
                config.preset = "anomaly".into();
                config.data = DataConfig { size: Size::square(28), gray: true, ..config.data };
                config.network.base = 16;
                config.network.hidden = vec![128];
                if let Objective::Vae(objective) = &mut config.objective {
                    (objective.likelihood, objective.sigma) = (Likelihood::Gaussian, 0.0);
                }
                config.training.pictures = 400_000;
                config.training.batch = 64;
                config
            },
        },
        Preset {
            about: "sounds of any length in windows of a second, a VAE that learns what is usual: edgegen score tells what is odd",
            config: {
                let mut config = conv.clone();
                config.preset = "sound-anomaly".into();
                config.data = DataConfig { size: Size::square(64), gray: true, ..config.data };
                (config.data.rate, config.data.window, config.data.hop) = (16_000, 1024, 256);
                config.data.stride = 32;
                config.network.base = 16;
                config.network.hidden = vec![128];
                if let Objective::Vae(objective) = &mut config.objective {
                    (objective.likelihood, objective.sigma) = (Likelihood::Gaussian, 0.0);
                }
                config.training.pictures = 200_000;
                config.training.batch = 64;
                config
            },
        },
        Preset {
            about: "the same in windows of 5 columns of 128 bands by dense layers 640-128x4-8: the network of MLPerf Tiny",
            config: {
                let mut config = mlp_config.clone();
                config.preset = "sound-anomaly-dense".into();
                config.data = DataConfig { size: Size { width: 5, height: 128 }, gray: true, ..config.data };
                (config.data.rate, config.data.window, config.data.hop) = (16_000, 1024, 512);
                config.data.stride = 5;
                config.network.latent = 8;
                config.network.hidden = vec![128; 4];
                if let Objective::Vae(objective) = &mut config.objective {
                    (objective.likelihood, objective.sigma) = (Likelihood::Gaussian, 0.0);
                }
                config.training.pictures = 1_000_000;
                config
            },
        },
        Preset {
            about: "grey pictures of any size, of noise of any strength up to 50 levels: cleans them; 16 k MACs a pixel",
            config: transform("restore", Architecture::Restore, 32, &[1, 1], restore),
        },
        Preset {
            about: "grey pictures of any size, twice as large: 22 k weights",
            config: transform("enlarge-x2", Architecture::Enlarge, 24, &[2], enlarge(2)),
        },
        Preset {
            about: "grey pictures of any size, three times as large",
            config: transform("enlarge-x3", Architecture::Enlarge, 24, &[2], enlarge(3)),
        },
        Preset {
            about: "grey pictures of any size, four times as large",
            config: transform("enlarge-x4", Architecture::Enlarge, 24, &[2], enlarge(4)),
        },
        Preset {
            about: "a thermal camera's 32x24, blurred and noisy, four times as large",
            config: transform(
                "thermal-x4",
                Architecture::Enlarge,
                24,
                &[2],
                TransformConfig {
                    blur: [1.0, 2.0],
                    shrink: Shrink::Area,
                    noise: [1.0, 6.0],
                    patch: 96,
                    ..enlarge(4)
                },
            ),
        },
        Preset {
            about: "colour pictures 64x64 into others, learned from pairs (--to FOLDER or --side-by-side): pix2pix",
            config: {
                let paired =
                    TransformConfig { difference: Difference::L1, adversarial: 0.01, ..clean.clone() };
                let mut config = transform("translate", Architecture::Unet, 24, &[0, 0, 0, 1], paired);
                config.data.size = Size::square(64);
                config.data.gray = false;
                config.training.pictures = 200_000;
                config.training.batch = 16;
                config.training.learning_rate = 5e-4;
                config.training.final_rate = 1e-5;
                config.adam.beta1 = 0.5;
                config
            },
        },
    ]
}

/// The names, as a list for a message.
pub fn names() -> String {
    all().into_iter().map(|preset| preset.config.preset).collect::<Vec<_>>().join(", ")
}

/// The preset called `name`.
///
/// # Errors
/// [`Error::Config`] listing the names.
pub fn find(name: &str) -> Result<Preset> {
    all()
        .into_iter()
        .find(|preset| preset.config.preset == name)
        .ok_or_else(|| Error::Config(format!("there is no preset {name:?}; there are {}", names())))
}
