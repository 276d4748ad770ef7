//! A page in headless Chromium, by the Chrome DevTools Protocol.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tungstenite::Message;

/// How long a page may take. Chromium starts in a second or two, in more on a busy machine.
const LONGEST: Duration = Duration::from_mins(1);

/// A tab of a browser, which ends with it.
pub struct Tab {
    browser: Child,
    socket: tungstenite::WebSocket<std::net::TcpStream>,
    session: String,
    last: u64,
    /// The addresses that the browser has asked for.
    pub requests: Vec<String>,
}

/// The screen of a device.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// What messages call it.
    pub name: &'static str,
    /// In pixels of CSS.
    pub width: u32,
    /// In pixels of CSS.
    pub height: u32,
    /// Whether it is that of a phone, which lays pages out by their viewport element.
    pub is_mobile: bool,
}

impl Tab {
    /// Starts a browser, whose profile is in a folder that does not exist yet.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn open(profile: &Path) -> Self {
        let mut browser = Command::new("chromium")
            // The tests run as root, as which Chromium has no sandbox.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--disable-background-networking", "--no-first-run", "--hide-scrollbars"])
            .args(["--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chromium starts: scripts/test installs it");
        let messages = BufReader::new(browser.stderr.take().expect("a pipe"));
        let mut lines = messages.lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| line.strip_prefix("DevTools listening on ").map(str::to_owned))
            .expect("the address of the browser");
        // What else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let host = address.trim_start_matches("ws://").split('/').next().expect("a host");
        let stream = std::net::TcpStream::connect(host).expect("the browser listens");
        stream.set_read_timeout(Some(LONGEST)).expect("a timeout");
        let (socket, _) = tungstenite::client(address.as_str(), stream).expect("a web socket");
        let (session, requests) = (String::new(), Vec::new());
        let mut tab = Self { browser, socket, session, last: 0, requests };
        let target = tab.call("Target.createTarget", &json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let attached = tab.call("Target.attachToTarget", &target);
        attached["sessionId"].as_str().expect("a session").clone_into(&mut tab.session);
        tab.call("Page.enable", &json!({}));
        tab.call("Network.enable", &json!({}));
        tab
    }

    /// Sends a command, and returns its result.
    ///
    /// # Panics
    /// If the browser rejects it.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut command = json!({"id": self.last, "method": method, "params": parameters});
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(command.to_string())).expect("the browser reads");
        loop {
            let answer = self.message();
            if answer["id"] == json!(self.last) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    /// Returns the next message, and notes what it says of requests.
    fn message(&mut self) -> Value {
        loop {
            let Message::Text(text) = self.socket.read().expect("the browser answers") else {
                continue;
            };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["method"] == "Network.requestWillBeSent" {
                let url = message["params"]["request"]["url"].as_str().unwrap_or_default();
                self.requests.push(url.to_owned());
            }
            return message;
        }
    }

    /// Loads an address.
    pub fn load(&mut self, url: &str) {
        self.call("Page.navigate", &json!({"url": url}));
        while self.message()["method"] != "Page.loadEventFired" {}
    }

    /// Shows pages as on a screen from now on, in a color scheme: `light` or `dark`.
    pub fn set_screen(&mut self, screen: Screen, scheme: &str) {
        let Screen { width, height, is_mobile, .. } = screen;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
    }

    /// Returns the value of an expression of JavaScript in the page.
    ///
    /// # Panics
    /// If it throws.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
