//! The page: what viewers get and ask for over HTTP, who is turned away, and all of it once more in a browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A program that is stopped when the test is over, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// The simulator with these arguments, and where its page is: host with port, and what follows the slash.
fn page(arguments: &[&str]) -> (Running, String, String) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgegen-sim"));
    command.current_dir(models).args(arguments).stdout(Stdio::piped());
    let mut program = Running(command.spawn().unwrap());
    let lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
    let line =
        lines.map(Result::unwrap).find(|line| line.starts_with("page ")).expect("a line with the page");
    let (host, rest) = line.rsplit_once("http://").unwrap().1.split_once('/').unwrap();
    (program, host.to_owned(), rest.to_owned())
}

/// One request; the status and what was answered.
fn request(host: &str, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let own = if headers.iter().any(|header| header.starts_with("Host")) {
        String::new()
    } else {
        format!("Host: {host}\r\n")
    };
    let more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\n{own}{more}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line.trim_end().to_ascii_lowercase()
    };
    let status = line().split(' ').nth(1).unwrap().parse().unwrap();
    let mut length = None;
    loop {
        let header = line();
        if header.is_empty() {
            break;
        }
        length =
            header.strip_prefix("content-length:").map(|length| length.trim().parse().unwrap()).or(length);
    }
    let mut answer = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut answer).unwrap();
    if length.is_none() {
        stream.read_to_end(&mut answer).unwrap();
    }
    (status, String::from_utf8_lossy(&answer).into_owned())
}

fn ask(host: &str, what: &Value) {
    let answer = request(host, "POST", "/control", &["Content-Type: application/json"], &what.to_string());
    assert_eq!(answer.0, 200, "{what}: {}", answer.1);
}

/// Server-sent events as they come.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(host: &str) -> Self {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next event of this name for which `is_it` holds.
    fn next(&mut self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut event = String::new();
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(20), "no such {name} in time");
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("an event in time") > 0, "the events ended");
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.trim().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ").filter(|_| event == name) {
                let data: Value = serde_json::from_str(data).unwrap();
                if is_it(&data) {
                    return data;
                }
            }
        }
    }
}

#[test]
fn viewers_see_the_panel_and_operate_it() {
    let (_program, host, _) =
        page(&["--model", "mnist-gan", "--panel", "ssd1306", "--web", "0", "--show", "still"]);
    let mut events = Events::of(&host);
    let status = events.next("status", |_| true);
    assert_eq!(
        (&status["classes"][3], &status["class"], &status["precision"]),
        (&json!("3"), &json!(null), &json!("int8"))
    );
    let first = events.next("picture", |news| news["png"].is_string());
    assert_eq!(
        [&first["x"], &first["y"], &first["width"], &first["height"]],
        [0, 0, 128, 64],
        "all of it at first"
    );
    assert!(first["making"].as_f64().unwrap() > 0.0);

    ask(&host, &json!({ "class": "4" }));
    events.next("status", |status| status["class"] == 4);
    let part = events.next("picture", |news| news["png"].is_string());
    assert!(part["x"].as_u64().unwrap() >= 36, "only the picture in the middle differs: {part}");
    ask(&host, &json!({ "truncation": 0.5 }));
    events.next("status", |status| status["truncation"] == 0.5);
    ask(&host, &json!({ "latent": [2, 1.5] }));
    events.next("status", |status| status["latent"][2] == 1.5);
    ask(&host, &json!({ "seeds": true }));
    events.next("status", |status| status["latent"].is_null());
    ask(&host, &json!({ "seed": 7 }));
    events.next("status", |status| status["state"] == "picture 7");
    ask(&host, &json!({ "turn": [0, 1] }));
    events.next("status", |status| status["class"] == 5);
    ask(&host, &json!({ "press": "walk" }));
    events.next("status", |status| status["state"] == "walk 7 to 8");
    let number = |news: Value| news["number"].as_u64().unwrap();
    let before = number(events.next("picture", |_| true));
    assert!(number(events.next("picture", |news| news["number"].as_u64() > Some(before + 2))) > before);
    ask(&host, &json!({ "press": "back" }));
    ask(&host, &json!({ "press": "back" }));
    events.next("status", |status| status["state"] == "blank");

    ask(&host, &json!({ "class": "99" }));
    assert!(events.next("message", |_| true).as_str().unwrap().contains("99"));
    ask(&host, &json!({ "precision": "fp8" }));
    assert!(events.next("message", |_| true).as_str().unwrap().contains("fp8"));
    // a second viewer gets all of it
    assert_eq!(Events::of(&host).next("picture", |news| news["png"].is_string())["width"], 128);
}

#[test]
fn precisions_of_a_folder_are_chosen() {
    let (_program, host, _) =
        page(&["--model", "mnist-vae2", "--panel", "ssd1306", "--web", "0", "--show", "still", "--explore"]);
    let mut events = Events::of(&host);
    let status = events.next("status", |_| true);
    assert_eq!((&status["precisions"], &status["latent"]), (&json!(["fp32", "int8"]), &json!([0.0, 0.0])));
    let other = if status["precision"] == "int8" { "fp32" } else { "int8" };
    ask(&host, &json!({ "turn": [1, 2] }));
    events.next("status", |status| status["latent"] == json!([0.0, 0.5]));
    ask(&host, &json!({ "precision": other }));
    let status = events.next("status", |status| status["precision"] == other);
    assert_eq!(status["latent"], json!([0.0, 0.5]), "settings stay");
}

/// Method, path, headers, body; status and a word of the answer.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, u16, &'a str);

#[test]
fn others_are_turned_away() {
    let (_program, host, rest) = page(&["--web", "0", "--show", "still"]);
    assert_eq!(rest, "");
    let json = "Content-Type: application/json";
    let evil = "Host: evil.example:80";
    let long = format!("{{\"class\":\"{}\"}}", "x".repeat(5000));
    let table: [Case<'_>; 9] = [
        ("GET", "/", &[], "", 200, "<!DOCTYPE html>"),
        ("GET", "/", &["Host: localhost:1"], "", 200, "<!DOCTYPE html>"),
        ("GET", "/", &[evil], "", 403, "localhost"),
        ("POST", "/control", &[evil, json], "{\"press\":\"next\"}", 403, "localhost"),
        ("POST", "/control", &["Content-Type: text/plain"], "{\"press\":\"next\"}", 415, "application/json"),
        ("POST", "/control", &[json], "{\"press\":\"jump\"}", 400, "jump"),
        ("POST", "/control", &[json], &long, 400, "not understood"),
        ("GET", "/../Cargo.toml", &[], "", 404, "/events"),
        ("DELETE", "/", &[], "", 404, "/events"),
    ];
    for (method, path, headers, body, status, word) in table {
        let answer = request(&host, method, path, headers, body);
        assert!(answer.0 == status && answer.1.contains(word), "{method} {path} {headers:?}: {answer:?}");
    }

    let (_program, host, rest) = page(&["--web", "0", "--show", "still", "--web-token", "correct-horse"]);
    assert_eq!(rest, "?token=correct-horse");
    for (path, status) in
        [("/", 403), ("/?token=wrong-horse", 403), ("/?token=correct-horse", 200), ("/events", 403)]
    {
        assert_eq!(request(&host, "GET", path, &[evil], "").0, status, "{path}");
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_edgegen-sim")).args(["--web", "0.0.0.0:0"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.lines().count() == 1 && error.contains("token"), "{error}");
}

/// A browser, operated by the W3C's WebDriver protocol.
struct Browser {
    _driver: Running,
    host: String,
    session: String,
}

impl Browser {
    /// `None` where there is none.
    fn open() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = Running(command.spawn().ok()?);
        let host = format!("127.0.0.1:{port}");
        let up = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(&host).is_ok()
        });
        assert!(up, "chromedriver answers within ten seconds");
        let mut browser = Self { _driver: driver, host, session: String::new() };
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1120,1000"];
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": arguments } } } });
        let session = browser.command("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let (status, answer) = request(&self.host, method, path, &["Content-Type: application/json"], &body);
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["value"].take()
    }

    fn visit(&self, url: &str) {
        self.command("POST", &format!("/session/{}/url", self.session), &json!({ "url": url }));
    }

    /// What a line of the page's language comes to.
    fn run(&self, script: &str) -> Value {
        let what = json!({ "script": script, "args": [] });
        self.command("POST", &format!("/session/{}/execute/sync", self.session), &what)
    }

    fn wait_for(&self, script: &str) {
        let come = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            self.run(&format!("return Boolean({script})")) == true
        });
        assert!(
            come,
            "{script} within ten seconds; the page says {}",
            self.run("return document.body.innerText")
        );
    }

    fn screenshot(&self) -> Vec<u8> {
        use base64::Engine;
        let shot = self.command("GET", &format!("/session/{}/screenshot", self.session), &Value::Null);
        base64::engine::general_purpose::STANDARD.decode(shot.as_str().unwrap()).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.command("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
    }
}

#[test]
fn a_browser_shows_the_panel_and_its_buttons_work() {
    let Some(browser) = Browser::open() else {
        eprintln!("SKIPPED: there is no chromedriver, so the page is not tested in a browser");
        return;
    };
    let (_program, host, rest) =
        page(&["--model", "mnist-gan", "--web", "0", "--show", "still", "--web-token", "correct-horse"]);
    browser.visit(&format!("http://{host}/{rest}"));
    browser.wait_for("document.body.dataset.shown > 0");
    assert_eq!(browser.run("return [panel.width, panel.height]"), json!([240, 240]));
    // what the canvas shows, as one number
    let sum = "(() => { let sum = 0; for (const level of ink.getImageData(0, 0, panel.width, panel.height).data) sum = (sum * 31 + level) >>> 0; return sum; })()";
    let shown = || browser.run(&format!("return {sum}"));
    let first = shown();
    let changed = |before: &Value| browser.wait_for(&format!("{sum} !== {before}"));

    browser.run("document.querySelector('[data-press=next]').click()");
    browser.wait_for("by('state').textContent === 'picture 1'");
    changed(&first);
    let one = shown();
    browser.run("by('class').value = '4'; by('class').onchange()");
    browser.wait_for("status.class === 4");
    changed(&one);
    browser.run("by('truncation').value = 0.5; by('truncation').oninput()");
    browser.wait_for("status.truncation === 0.5");
    let before = shown();
    browser.run("document.querySelector('details').open = true");
    browser.run("const slider = by('latents').children[1].children[0]; slider.value = 3; slider.oninput()");
    browser.wait_for("status.latent && status.latent[1] === 3");
    changed(&before);
    browser.run("by('seeds').click(); document.querySelector('[data-turn=\"0,1\"]').click()");
    browser.wait_for("status.latent === null && status.class === 5");
    browser.run("ask({ class: '77' })");
    browser.wait_for("!by('message').hidden && by('message').textContent.includes('77')");
    browser.run("by('class').value = ''; by('class').onchange(); document.querySelector('[data-press=select]').click()");
    browser.wait_for("by('state').textContent.startsWith('gallery')");
    browser.run("document.querySelector('[data-press=walk]').click(); say('')");
    browser.wait_for("by('state').textContent.startsWith('gallery walks') && times.length > 60");
    let image = browser.screenshot();
    assert!(image.starts_with(b"\x89PNG") && image.len() > 10_000);
    if let Some(path) = std::env::var_os("EDGEGEN_SCREENSHOT") {
        std::fs::write(path, image).unwrap();
    }
}
