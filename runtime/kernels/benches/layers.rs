//! The layers of gan-64-slim in every family that this CPU has. `cargo bench -p edgegen-kernels --features std`;
//! elements per second are multiply-accumulates.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use edgegen_kernels::{
    Axis, Cpu, FloatLayer, FloatSpec, Isa, Kind, Plane, QuantizedLayer, QuantizedSpec, Times,
};

/// Layers of gan-64-slim, and of a MobileNetV2-style block. Name, kind, input and output without borders.
fn layers() -> Vec<(String, Kind, Plane, Plane)> {
    let axis = Axis::new(4, 2, 1, 1).expect("small");
    let mut layers = vec![(
        "dense 100 to 256x4x4".into(),
        Kind::Dense,
        Plane::new(100, 1, 1).expect("small"),
        Plane::new(256, 4, 4).expect("small"),
    )];
    for (inputs, outputs, side) in [(256, 128, 4), (128, 64, 8), (64, 32, 16), (32, 3, 32)] {
        layers.push((
            format!("transposed {inputs} to {outputs} at {side}x{side}"),
            Kind::Transposed { y: axis, x: axis, groups: 1 },
            Plane::new(inputs, side, side).expect("small"),
            Plane::new(outputs, 2 * side, 2 * side).expect("small"),
        ));
    }
    let axis = Axis::new(3, 1, 1, 1).expect("small");
    for side in [16, 64] {
        let plane = Plane::new(96, side, side).expect("small");
        let (enlarged, block) = (Times::ONE, Times::ONE);
        let kind = Kind::Conv { y: axis, x: axis, enlarged, block, cropped: 0, groups: 96 };
        layers.push((format!("depthwise 96 at {side}x{side}"), kind, plane, plane));
    }
    layers
}

fn count(kind: Kind, input: &Plane, output: &Plane) -> usize {
    match kind {
        Kind::Dense => input.values() * output.values(),
        Kind::Conv { .. } => input.channels() * 9,
        Kind::Transposed { .. } => input.channels() * output.channels() * 16,
    }
}

/// Bytes of a cache line, which planes start at.
const LINE: usize = 64;

fn bench(criterion: &mut Criterion) {
    for cpu in Isa::ALL.into_iter().filter_map(Cpu::with) {
        for (name, kind, input, output) in layers() {
            let input = input.with_border(kind.border(&input, &output)).expect("small");
            let macs = kind.macs(&input, &output);
            let total = count(kind, &input, &output);
            let mut group = criterion.benchmark_group(format!("{}/{name}", cpu.isa()));
            group.throughput(Throughput::Elements(macs)).sample_size(20);
            // the spread of trained weights: few are near the ends
            let weights: Vec<i8> =
                (0..total).map(|i| ((i * 7919 % 61) as i8 - 30) + ((i * 31 % 47) as i8 - 23)).collect();
            let layer = QuantizedLayer::new(
                cpu,
                &QuantizedSpec {
                    kind,
                    input,
                    output,
                    weights: &weights,
                    bias: &[],
                    scales: &[1e-4],
                    x_zero: 0,
                    y_zero: 0,
                    low: 0,
                    high: 255,
                    slope: 1.0,
                },
            );
            let layer = layer.expect("the sizes fit");
            // planes start at cache lines, as the runtime has them
            let x = vec![100u8; input.len() + layer.slack() + LINE];
            let x = &x[x.as_ptr().align_offset(LINE)..];
            let (mut y, mut scratch) = (vec![0u8; output.len() + LINE], vec![0; layer.scratch()]);
            let first = y.as_ptr().align_offset(LINE);
            let y = &mut y[first..];
            group.bench_function("int8", |b| b.iter(|| layer.run(black_box(x), black_box(y), &mut scratch)));

            let weights: Vec<f32> = weights.iter().map(|w| f32::from(*w) / 100.0).collect();
            let layer = FloatLayer::new(
                cpu,
                &FloatSpec {
                    kind,
                    input,
                    output,
                    weights: &weights,
                    bias: &[],
                    slopes: &[0.0],
                    clip: None,
                    halves: false,
                },
            );
            let layer = layer.expect("the sizes fit");
            let x = vec![0.5f32; input.len() + layer.slack() + LINE];
            let x = &x[x.as_ptr().align_offset(LINE)..];
            let (mut y, mut scratch) = (vec![0.0f32; output.len() + LINE], vec![0.0; layer.scratch()]);
            let first = y.as_ptr().align_offset(LINE);
            let y = &mut y[first..];
            group.bench_function("float32", |b| {
                b.iter(|| layer.run(black_box(x), black_box(y), &mut scratch))
            });
            group.finish();
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
