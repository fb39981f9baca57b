//! `edgegen info`: what a model is, for people and as JSON.

use super::choice::Choice;
use super::{print, printable};
use anyhow::Result;
use clap::Args;
use edgegen_runtime::model::{Facts, NodeFact, Part, Range, TensorFact};
use serde_json::{Value, json};

#[derive(Args)]
pub(super) struct Info {
    #[command(flatten)]
    choice: Choice,
    /// Network, of those in a model folder [default: decoder or generator]
    #[arg(long, value_name = "encoder|decoder|generator")]
    part: Option<Part>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(super) fn run(self) -> Result<()> {
        let model = self.choice.open(self.part)?;
        let name = self.choice.model.display().to_string();
        match self.json {
            true => print(&format!("{}\n", to_json(&name, model.facts()))),
            false => print(&to_text(&name, model.facts())),
        }
    }
}

fn to_json(name: &str, facts: &Facts) -> Value {
    let tensors = |tensors: &[TensorFact]| {
        tensors
            .iter()
            .map(|t| json!({"name": t.name, "shape": t.shape, "dtype": t.dtype}))
            .collect::<Vec<_>>()
    };
    let metadata: serde_json::Map<String, Value> =
        facts.metadata.to_props().into_iter().map(|(key, value)| (key, value.into())).collect();
    json!({
        "model": name,
        "part": facts.part,
        "latent_dim": facts.latent_dim,
        "source": facts.source,
        "any_size": facts.any_size,
        "scale": facts.scale,
        "image": facts.image,
        "range": facts.range,
        "pixel_format": facts.pixel_format,
        "precision": facts.precision,
        "parameters": facts.parameters,
        "macs": facts.macs,
        "file_bytes": facts.file_bytes,
        "opset": facts.opset,
        "ir_version": facts.ir_version,
        "inputs": tensors(&facts.inputs),
        "outputs": tensors(&facts.outputs),
        "operators": facts.operators,
        "isa": facts.isa,
        "tract": facts.tract,
        "nodes": facts.nodes.iter().map(|n| json!({"name": n.name, "operator": n.operator, "runner": n.runner})).collect::<Vec<_>>(),
        "producer_name": facts.metadata.producer_name,
        "producer_version": facts.metadata.producer_version,
        "metadata": metadata,
    })
}

fn to_text(name: &str, facts: &Facts) -> String {
    let mut text = format!("{name}\n");
    let mut line = |key: &str, value: String| text.push_str(&format!("  {key:<14}{value}\n"));
    let metadata = &facts.metadata;
    let kind = metadata.kind.map_or("of another program".to_string(), |kind| format!("of a {kind}"));
    line("part", format!("{} {kind}", facts.part));
    match facts.source {
        Some(source) if facts.any_size => {
            line(
                "reads",
                format!("{}xHxW: pictures of any size; what follows is of {source}", source.channels),
            );
            let places = match (metadata.border, metadata.multiple) {
                (Some(border), multiple) => format!(
                    "with {border} pixels of their neighbours, at multiples of {}",
                    multiple.unwrap_or(1)
                ),
                (None, _) => "none: the file does not tell how far around a pixel it looks".into(),
            };
            line("tiles", places);
        }
        Some(source) => line("reads", format!("{source} (channels x height x width)")),
        None => line("latent", format!("{} values", facts.latent_dim)),
    }
    let none = facts.raster.as_ref().filter(|raster| raster.image().is_none());
    line(
        "picture",
        match none {
            Some(raster) => format!(
                "none: values {:?}, which can be had as .npy; --picture CxHxW tells how they lie in a picture",
                raster.row()
            ),
            None => format!("{} (channels x height x width), {}", facts.image, facts.pixel_format),
        },
    );
    let range = match facts.range {
        Some(range @ Range::Unit) => format!("{range} (0 to 1)"),
        Some(range @ Range::Signed) => format!("{range} (-1 to 1)"),
        Some(range @ Range::Bytes) => format!("{range} (0 to 255)"),
        None => "not known: pictures need --range unit (0 to 1) or --range signed (-1 to 1)".into(),
    };
    line("range", range);
    line("precision", facts.precision.to_string());
    line(
        "weights",
        format!("{}, {} bytes in the file", grouped(facts.parameters), grouped(facts.file_bytes)),
    );
    let macs = facts.macs.map_or("unknown".into(), grouped);
    line("work", format!("{macs} multiply-accumulates per picture"));
    for (key, tensors) in [("input", &facts.inputs), ("output", &facts.outputs)] {
        for tensor in tensors {
            line(key, format!("{} {} ({})", tensor.name, tensor.dtype, tensor.shape));
        }
    }
    let operators: Vec<String> =
        facts.operators.iter().map(|(name, count)| format!("{count} {name}")).collect();
    line("operators", operators.join(", "));
    line("format", format!("ONNX opset {}, IR version {}", facts.opset, facts.ir_version));
    let producer = [&metadata.producer_name, &metadata.producer_version].map(|t| t.as_deref().unwrap_or(""));
    if !producer[0].is_empty() {
        line("made by", producer.join(" ").trim_end().to_string());
    }
    let seed = metadata.seed.map(|seed| seed.to_string());
    let classes = (!metadata.classes.is_empty()).then(|| metadata.classes.join(", "));
    let noise = metadata.noise.map(|sigma| format!("of deviation {sigma} on pictures in [0, 1]"));
    let binarized = metadata.binarized.then(|| "stochastically".to_string());
    for (key, value) in [
        ("trained on", &metadata.dataset),
        ("seed", &seed),
        ("classes", &classes),
        ("made from", &metadata.parent_sha256),
        ("binarised", &binarized),
        ("noise", &noise),
    ] {
        if let Some(value) = value {
            line(key, value.clone());
        }
    }
    match &facts.tract {
        None => line("run by", format!("edgegen's kernels, {}", facts.isa)),
        Some(reason) => line("run by", format!("tract: {reason}")),
    }
    let column =
        |value: fn(&NodeFact) -> &String| facts.nodes.iter().map(|n| value(n).len()).max().unwrap_or(0);
    let (operators, names) = (column(|node| &node.operator), column(|node| &node.name));
    for node in facts.nodes.iter().filter(|_| facts.tract.is_none()) {
        text.push_str(&format!("    {:operators$}  {:names$}  {}\n", node.operator, node.name, node.runner));
    }
    printable(&text)
}

/// 1234567 → `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (27_150_336, "27,150,336")] {
            assert_eq!(grouped(number), text);
        }
    }
}
