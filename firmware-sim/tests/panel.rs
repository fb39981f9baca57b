//! `edgegen-panel` on a made-up framebuffer: what it shows, how it stops, what it says of a bad configuration.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

#[path = "../../runtime/tests/common/mod.rs"]
mod foreign;

const WIDTH: usize = 80;
const HEIGHT: usize = 64;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// A root with `/dev/fb0` of 80 × 64 pixels, and a configuration with `more` lines.
fn tree(bits: usize, more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sys = folder.path().join("sys/class/graphics/fb0");
    std::fs::create_dir_all(&sys).unwrap();
    std::fs::create_dir(folder.path().join("dev")).unwrap();
    let stride = WIDTH * bits / 8;
    std::fs::write(folder.path().join("dev/fb0"), vec![0xee; stride * HEIGHT]).unwrap();
    std::fs::write(sys.join("virtual_size"), format!("{WIDTH},{HEIGHT}\n")).unwrap();
    std::fs::write(sys.join("bits_per_pixel"), format!("{bits}\n")).unwrap();
    std::fs::write(sys.join("stride"), format!("{stride}\n")).unwrap();
    let model = models().join("smileys64-gan");
    let text = format!("model = {:?}\nprecision = \"int8\"\n{more}", model.display().to_string());
    std::fs::write(folder.path().join("edgegen.toml"), text).unwrap();
    folder
}

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgegen-panel"));
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
    command.arg("--root").arg(folder).arg("--config").arg(folder.join("edgegen.toml"));
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder).args(arguments).output().unwrap()
}

fn failure(more: &str) -> String {
    let folder = tree(32, more);
    let output = run(folder.path(), &["--check"]);
    assert!(!output.status.success() && output.stdout.is_empty(), "{more}: {output:?}");
    // a device may come back, a bad configuration does not
    let (device, code) = (output.stderr.windows(5).any(|word| word == b"/dev/"), output.status.code());
    assert_eq!(code, Some(if device { 1 } else { 78 }), "{more}: {output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn a_check_draws_nothing() {
    let folder = tree(32, "");
    let output = run(folder.path(), &["--check"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("int8 generator") && text.contains("80x64 pixels of 32 bits"), "{text}");
    let bytes = std::fs::read(folder.path().join("dev/fb0")).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0xee));
}

#[test]
fn the_panel_is_blank_after_the_last_picture() {
    for bits in [1, 16, 32] {
        let folder = tree(bits, "fps = 1000\n");
        let output = run(folder.path(), &["--pictures", "3"]);
        assert!(output.status.success(), "{output:?}");
        let bytes = std::fs::read(folder.path().join("dev/fb0")).unwrap();
        assert!(bytes.len() == WIDTH * HEIGHT * bits / 8 && bytes.iter().all(|byte| *byte == 0), "{bits}");
    }
}

/// What `edgegen generate` draws stands in the middle of the panel, pixel for pixel.
#[test]
fn pictures_are_those_of_the_model() {
    let folder = tree(32, "show = \"pictures\"\nseed = 7\npause = 600\n");
    let mut child = program(folder.path()).stdout(Stdio::null()).spawn().unwrap();
    let shown = || {
        let bytes = std::fs::read(folder.path().join("dev/fb0")).unwrap();
        bytes[..WIDTH * 4].iter().all(|byte| *byte != 0xee).then_some(bytes)
    };
    let bytes = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        shown()
    });
    let killed = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success() && child.wait().unwrap().success());
    let bytes = bytes.expect("a picture within ten seconds");

    let model = edgegen_runtime::model::ModelFolder::open(&models().join("smileys64-gan")).unwrap();
    let part = model.drawing_part().unwrap();
    let precision = Some(edgegen_runtime::model::Precision::Int8);
    let model = model.open_part(part, precision, &Default::default()).unwrap();
    let mut network = model.into_generator(1).unwrap();
    let latents = edgegen_runtime::generate::Latents::from_seed(7, 0, 1, network.latent_dim(), 1.0);
    let mut picture = vec![0; 64 * 64 * 3];
    network.frame_into(latents.row(0), None, &mut picture).unwrap();
    for (y, row) in bytes.chunks_exact(WIDTH * 4).enumerate() {
        for (x, pixel) in row.chunks_exact(4).enumerate() {
            let [blue, green, red] = [pixel[0], pixel[1], pixel[2]];
            let expected = match x.checked_sub((WIDTH - 64) / 2) {
                Some(x) if x < 64 => &picture[(y * 64 + x) * 3..][..3],
                _ => &[0; 3],
            };
            assert_eq!([red, green, blue], expected, "({x}, {y})");
        }
    }
    // and it leaves a blank panel
    let bytes = std::fs::read(folder.path().join("dev/fb0")).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn systemd_hears_when_it_is_ready_and_that_it_lives() {
    let folder = tree(32, "fps = 20\n");
    let socket = folder.path().join("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut command = program(folder.path());
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "100000");
    let mut child = command.args(["--pictures", "10"]).stdout(Stdio::null()).spawn().unwrap();
    let mut heard = Vec::new();
    let mut message = [0; 256];
    while !heard.iter().any(|text: &String| text.contains("STOPPING=1")) {
        let length = listener.recv(&mut message).expect("a word within ten seconds");
        heard.push(String::from_utf8_lossy(&message[..length]).into_owned());
    }
    assert!(child.wait().unwrap().success());
    assert!(heard[0].contains("READY=1"), "{heard:?}");
    let lives = heard.iter().filter(|text| text.contains("WATCHDOG=1")).count();
    assert!(lives >= 3, "{heard:?}");
}

#[test]
fn a_bad_configuration_is_one_line_with_its_place() {
    for (more, parts) in [
        ("colour = 3\n", vec!["edgegen.toml, line 3", "colour"]),
        ("fps = \"many\"\n", vec!["line 3", "string"]),
        ("fps = 0\n", vec!["fps = 0"]),
        ("fps = nan\n", vec!["fps = NaN"]),
        ("fps = 1e-300\n", vec!["fps = ", "one a day"]),
        ("pause = -1\n", vec!["pause = -1"]),
        ("steps = 1\n", vec!["steps = 1"]),
        ("panel = \"crt\"\n", vec!["crt", "framebuffer", "gc9a01"]),
        ("panel = \"st7789\"\n", vec!["/dev/spidev0.0", "dtparam=spi=on"]),
        ("panel = \"ssd1306\"\ni2c = \"/dev/i2c-7\"\n", vec!["/dev/i2c-7", "dtparam=i2c_arm=on"]),
        ("panel = \"st7789\"\nrotate = 45\n", vec!["rotate = 45"]),
        ("panel = \"st7789\"\nspi_mode = 1\n", vec!["spi_mode = 1"]),
        ("panel = \"st7789\"\nhertz = 1\n", vec!["hertz = 1"]),
        ("panel = \"st7789\"\ndc = -1\n", vec!["line 4"]),
        ("device = \"/dev/fb7\"\n", vec!["/dev/fb7", "no framebuffer"]),
        ("class = \"7\"\n", vec!["class"]),
        ("range = \"dark\"\n", vec!["edgegen.toml", "dark", "unit, signed or auto"]),
        ("shape = \"100\"\n", vec!["edgegen.toml", "100", "N,100"]),
        ("output = \"y\"\n", vec!["no output is called \"y\""]),
        ("show = \"film\"\n", vec!["line 3", "film", "walk"]),
        ("seed =\n", vec!["line 3"]),
        ("panel = \"hub75\"\n", vec!["hub75", "edgegen-sim"]),
        ("panel = \"epd2in9\"\n", vec!["BUSY", "busy = 17"]),
        ("panel = \"st7789\"\nbusy = 17\n", vec!["busy", "e-paper"]),
        ("panel = \"st7789\"\nreset = 24\n", vec!["line 24", "twice"]),
        ("buttons = [5, 6]\nkeys = { next = 6 }\n", vec!["line 6", "twice"]),
        ("keys = { jump = 6 }\n", vec!["line 3", "jump"]),
        ("buttons = [5]\n", vec!["line 3"]),
        ("web = \"everywhere\"\n", vec!["everywhere", "8080"]),
        ("web_token = \"correct-horse\"\n", vec!["web"]),
        ("web = \"0.0.0.0:8080\"\n", vec!["token"]),
        ("web = \"8080\"\nweb_token = \"short\"\n", vec!["8 letters"]),
        ("pictures = \"/nowhere\"\n", vec!["/nowhere"]),
        ("explore = true\npictures = \"/\"\n", vec!["pictures"]),
    ] {
        let text = failure(more);
        for part in parts {
            assert!(text.contains(part), "{more}: {text}");
        }
    }
    let folder = tree(32, "");
    std::fs::remove_file(folder.path().join("edgegen.toml")).unwrap();
    let output = run(folder.path(), &["--check"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot read"));
}

/// The configuration says what the file of another program does not, and messages name its keys, not flags.
#[test]
fn keys_say_what_a_foreign_file_does_not() {
    for (model, expected, key) in [
        (foreign::foreign_generator(-1, "Identity"), "range = \"unit\"", "range = \"unit\"\n"),
        (
            foreign::foreign_generator(-1, "Tanh").output("b", &[-1, 8, 4, 4]),
            "the key output",
            "output = \"picture\"\n",
        ),
    ] {
        let folder = tree(32, "");
        std::fs::write(folder.path().join("foreign.onnx"), model.bytes()).unwrap();
        let file = folder.path().join("foreign.onnx");
        let write = |more: &str| {
            let text = format!("model = {:?}\n{more}", file.display().to_string());
            std::fs::write(folder.path().join("edgegen.toml"), text).unwrap();
            run(folder.path(), &["--check"])
        };
        let refused = write("");
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && text.contains(expected) && !text.contains("--"), "{text}");
        let accepted = write(key);
        assert!(accepted.status.success(), "{accepted:?}");
    }
}

/// A panel on a bus is checked as far as its devices go; a device that is none of the kernel's is an error, and nothing hangs.
#[test]
fn a_wired_panel_is_checked_and_its_failure_is_one_line() {
    let folder = tree(32, "panel = \"st7789-135x240\"\nrotate = 90\ndc = 24\nreset = 25\nspi_mode = 3\n");
    for file in ["spidev0.0", "gpiochip0"] {
        std::fs::write(folder.path().join("dev").join(file), b"").unwrap();
    }
    let output = run(folder.path(), &["--check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("135x240") && text.contains("SPI at 40 MHz"), "{text}");
    let output = run(folder.path(), &["--pictures", "1"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.lines().count() == 1 && text.contains("spidev0.0"), "{text}");
}

/// What the page shows of a real panel is what was drawn on it, and its buttons work.
#[test]
fn the_page_shows_a_real_panel() {
    let folder = tree(32, "show = \"still\"\nweb = \"0\"\n");
    let mut child = program(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = lines.find_map(|line| line.strip_prefix("page http://").map(str::to_owned)).unwrap();
    let host = url.trim_end_matches('/');
    let mut events = TcpStream::connect(host).unwrap();
    events.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(events, "GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut events = BufReader::new(events).lines().map(Result::unwrap);
    let picture = events.find(|line| line.contains("\"png\"")).unwrap();
    assert!(picture.contains("\"width\":80,\"height\":64,\"x\":0,\"y\":0"), "{picture}");
    let before = std::fs::read(folder.path().join("dev/fb0")).unwrap();
    let mut ask = TcpStream::connect(host).unwrap();
    let body = "{\"press\":\"next\"}";
    let length = body.len();
    write!(
        ask,
        "POST /control HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    assert!(events.find(|line| line.contains("\"state\"")).unwrap().contains("picture 1"));
    assert!(events.any(|line| line.contains("\"png\"")));
    assert!(std::fs::read(folder.path().join("dev/fb0")).unwrap() != before);
    assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

/// A model that takes pictures shows those of a folder; one that cannot be read is told of, and nothing stops.
#[test]
fn pictures_of_a_folder_are_shown() {
    let folder = tree(24, "");
    std::fs::create_dir(folder.path().join("pictures")).unwrap();
    for (name, level) in [("a.jpg", 90u8), ("b.png", 160)] {
        image::GrayImage::from_pixel(40, 32, image::Luma([level]))
            .save(folder.path().join("pictures").join(name))
            .unwrap();
    }
    let pictures = folder.path().join("pictures");
    let model = models().join("enlarge-x2");
    let text = format!(
        "model = {:?}\npictures = {:?}\nshow = \"pictures\"\npause = 0.05\n",
        model.display().to_string(),
        pictures.display().to_string()
    );
    std::fs::write(folder.path().join("edgegen.toml"), text).unwrap();
    let output = run(folder.path(), &["--check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("pictures of 1x32x40 to 1x64x80"), "{text}");
    let mut child = program(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let middle = || {
        let bytes = std::fs::read(folder.path().join("dev/fb0")).unwrap();
        bytes[(32 * WIDTH + 40) * 3]
    };
    let seen = |level: u8| {
        let come = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            middle().abs_diff(level) < 12
        });
        assert!(come, "a picture of {level}, not of {}", middle());
    };
    seen(90);
    seen(160);
    seen(90);
    for name in ["a.jpg", "b.png"] {
        std::fs::remove_file(pictures.join(name)).unwrap();
    }
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(errors.next().unwrap().contains("holds no pictures"));
    image::GrayImage::from_pixel(40, 32, image::Luma([220])).save(pictures.join("c.png")).unwrap();
    seen(220);
    assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

/// A model is replaced while it is shown: by a good one, by one of another size, by noise.
#[test]
fn a_replaced_model_is_taken_up_or_refused() {
    let folder = tree(32, "");
    let file = folder.path().join("model.onnx");
    let models = models();
    let part = |name: &str| models.join(name);
    // written beside it and renamed, as every file should be
    let put = |bytes: &[u8]| {
        let new = folder.path().join("new.onnx");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    let decoder = std::fs::read(part("mnist-vae2/decoder.fp32.onnx")).unwrap();
    put(&decoder);
    let text = format!("model = {:?}\nfps = 100\n", file.display().to_string());
    std::fs::write(folder.path().join("edgegen.toml"), text).unwrap();
    let said = |name: &str| folder.path().join(name);
    let file_for = |name: &str| Stdio::from(std::fs::File::create(said(name)).unwrap());
    let mut child =
        program(folder.path()).stdout(file_for("out")).stderr(file_for("errors")).spawn().unwrap();
    let wait_for = |name: &str, words: &str| {
        let found = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            std::fs::read_to_string(said(name)).unwrap().contains(words)
        });
        assert!(found, "{words:?} is missing in {:?}", std::fs::read_to_string(said(name)));
    };
    wait_for("out", "panel");
    put(&std::fs::read(part("mnist-vae2/decoder.int8.onnx")).unwrap());
    wait_for("out", "int8 decoder, latents of 2, pictures of 1x28x28, replaced");
    put(&std::fs::read(part("smileys64-gan/generator.int8.onnx")).unwrap());
    wait_for("errors", "another size");
    put(b"noise");
    wait_for("errors", "model.onnx: ");
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    let asked = std::time::Instant::now();
    assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success() && asked.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_panel_that_fails_is_an_error() {
    let folder = tree(32, "");
    std::fs::remove_file(folder.path().join("dev/fb0")).unwrap();
    // a directory cannot be written
    std::fs::create_dir(folder.path().join("dev/fb0")).unwrap();
    let mut child = program(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(!child.wait().unwrap().success());
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.starts_with("error: ") && text.contains("fb0") && text.lines().count() == 1, "{text}");
}
