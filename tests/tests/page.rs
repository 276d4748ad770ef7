//! The HTML report in a browser: at the width of a phone and of a desktop, light and dark, printed,
//! and with names that are markup.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dragonfly_tests::browser::{Screen, Tab};
use dragonfly_tests::{Cluster, column, project};
use serde_json::json;
use std::path::PathBuf;

/// What every page must have, as a function in the browser that returns what is wrong.
const CHECKS: &str = include_str!("page/checks.js");

/// Names that are markup, and names as long as they can be.
const HOSTILE: &str = "
    SET dragonfly_guard.mode = off;
    CREATE TABLE public.\"<script>document.title = 'owned'</script>\" (id int);
    CREATE POLICY \"<img src=x onerror=alert(1)>\"
      ON public.\"<script>document.title = 'owned'</script>\" USING (true);
    CREATE TABLE public.\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" ();
    CREATE TABLE public.\"WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW\" ();
    CREATE TABLE public.\"\u{202e}\u{5d0}\u{5d1}\u{5d2} '\"\" style='position:fixed\" ();
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO anon;
    CREATE ROLE \"</td><script>document.title = 'owned'</script>\";
    RESET dragonfly_guard.mode";

const WIDTHS: [Screen; 2] = [
    Screen { name: "phone", width: 390, height: 844, is_mobile: true },
    Screen { name: "desktop", width: 1280, height: 900, is_mobile: false },
];

/// A page in a browser.
struct Shown {
    tab: Tab,
    file: PathBuf,
}

impl Shown {
    fn of(cluster: &Cluster, page: &str) -> Self {
        let tab = Tab::open(&cluster.folder().join("browser"));
        let mut shown = Self { tab, file: cluster.folder().with_extension("html") };
        shown.show(page);
        shown
    }

    /// Shows another page.
    fn show(&mut self, page: &str) {
        std::fs::write(&self.file, page).unwrap();
        self.tab.load(&self.url());
    }

    fn url(&self) -> String {
        format!("file://{}", self.file.display())
    }

    fn on(&mut self, screen: Screen, scheme: &str) {
        self.tab.set_screen(screen, scheme);
        // The element about the viewport is read when the page is loaded.
        self.tab.load(&self.url());
    }

    /// Returns what is wrong.
    fn faults(&mut self) -> Vec<String> {
        serde_json::from_value(self.tab.value(&format!("({CHECKS})()"))).unwrap()
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Returns a cluster, its report with violations and hostile names, and that of a clean database.
fn pages() -> (Cluster, String, String) {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let clean = column(&mut client, "SELECT ops.report_html()").remove(0);
    cluster.psql_file("app", "fixtures/violations.sql");
    client.batch_execute(HOSTILE).unwrap();
    let hostile = column(&mut client, "SELECT ops.report_html()").remove(0);
    (cluster, clean, hostile)
}

#[test]
fn page_fits_every_screen_and_can_be_read_in_light_and_dark() {
    let (cluster, clean, hostile) = pages();
    for (name, page) in [("clean", &clean), ("hostile", &hostile)] {
        let mut shown = Shown::of(&cluster, page);
        for screen in WIDTHS {
            for scheme in ["light", "dark"] {
                shown.on(screen, scheme);
                assert_eq!(shown.tab.value("innerWidth"), screen.width, "{}", screen.name);
                let faults = shown.faults();
                assert_eq!(faults, [""; 0], "{name} page, {} in {scheme}", screen.name);
            }
        }
        let (url, requests) = (shown.url(), &shown.tab.requests);
        assert!(!requests.is_empty() && requests.iter().all(|of| *of == url), "{requests:?}");
    }
}

#[test]
fn printed_page_is_not_cut_off() {
    let (cluster, _, hostile) = pages();
    let mut shown = Shown::of(&cluster, &hostile);
    // A4 without its margins, at 96 pixels an inch.
    let paper = Screen { name: "paper", width: 718, height: 1047, is_mobile: false };
    shown.on(paper, "light");
    shown.tab.call("Emulation.setEmulatedMedia", &json!({"media": "print"}));
    assert_eq!(shown.tab.value("getComputedStyle(document.querySelector('nav')).display"), "none");
    let scrolled = "[...document.querySelectorAll('.scroll, pre')]
        .filter((of) => of.scrollWidth > document.documentElement.clientWidth)
        .map((of) => of.textContent.slice(0, 80))";
    assert_eq!(shown.tab.value(scrolled), json!([]));
    let printed = shown.tab.call("Page.printToPDF", &json!({"preferCSSPageSize": true}));
    let printed = BASE64_STANDARD.decode(printed["data"].as_str().unwrap()).unwrap();
    assert!(printed.starts_with(b"%PDF"));
}

#[test]
fn names_that_are_markup_stay_text() {
    let (cluster, _, hostile) = pages();
    let mut shown = Shown::of(&cluster, &hostile);
    assert_eq!(shown.tab.value("document.scripts.length + document.images.length"), 0);
    let title = shown.tab.value("document.title");
    assert!(title.as_str().unwrap().starts_with("app: contract "), "{title}");
    let text = shown.tab.value("document.body.textContent");
    for name in ["<script>document.title = 'owned'</script>", "<img src=x onerror=alert(1)>"] {
        assert!(text.as_str().unwrap().contains(name), "{name}");
    }
    // What a name contains is no attribute either.
    assert_eq!(shown.tab.value("document.querySelectorAll('[style], [onerror]').length"), 0);
}

#[test]
fn checks_of_the_page_find_what_is_wrong() {
    let (cluster, clean, _) = pages();
    let mut shown = Shown::of(&cluster, &clean);
    shown.on(WIDTHS[0], "light");
    assert_eq!(shown.faults(), [""; 0]);
    for (bad, fault) in [
        ("<p style=\"width: 2000px\">wide</p>", "wide on 390"),
        ("<p style=\"position: absolute; left: -9px\">left</p>", "reaches from -9"),
        ("<p style=\"color: #aaa; background: #fff\">pale</p>", "has a contrast of 2.32"),
        ("<p style=\"font-size: 9px\">small</p>", "is 9px high"),
        ("<a href=\"#none\">nowhere</a>", "leads to #none"),
        ("<a href=\"http://example.org\">out</a>", "leads to http"),
        ("<h4>deep</h4>", "follows a heading of level 2"),
        ("<p id=\"first\"></p>", "id first is used twice"),
        ("<p aria-labelledby=\"none\"></p>", "has no label"),
        (
            "<div role=\"region\" aria-labelledby=\"first-title\"></div>",
            "two landmarks are labelled by first-title",
        ),
        ("<table><tr><th>head</th></tr></table>", "has no scope"),
        ("<span class=\"severity\"></span>", "a severity has no text"),
        (
            "<div class=\"scroll\"><pre style=\"width: 900px\">row</pre></div>",
            "scrolls, and no key reaches it",
        ),
    ] {
        shown.show(&clean.replacen("</main>", &format!("{bad}</main>"), 1));
        let faults = shown.faults();
        assert!(faults.iter().any(|of| of.contains(fault)), "{bad}: {faults:?}");
    }
}

/// The pictures of the README show the page; `UPDATE_DOCS=1` takes them again.
#[test]
fn pictures_of_the_page_exist() {
    let folder = project().join("docs/images");
    let file = |screen: &Screen| folder.join(format!("report-{}.png", screen.name));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let cluster = Cluster::start();
        let mut client = cluster.guarded_document("app");
        cluster.psql_file("app", "fixtures/violations.sql");
        let page = column(&mut client, "SELECT ops.report_html()").remove(0);
        let mut shown = Shown::of(&cluster, &page);
        std::fs::create_dir_all(&folder).unwrap();
        for screen in WIDTHS {
            shown.on(screen, "light");
            let picture = shown.tab.call("Page.captureScreenshot", &json!({"format": "png"}));
            let picture = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
            std::fs::write(file(&screen), picture).unwrap();
        }
    }
    for screen in WIDTHS {
        let picture = std::fs::read(file(&screen)).unwrap();
        let width = u32::from_be_bytes(picture[16..20].try_into().unwrap());
        assert_eq!(width, screen.width, "{}", screen.name);
    }
}
