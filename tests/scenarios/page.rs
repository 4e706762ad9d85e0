//! The pages in a real browser, while a small pool runs out: what they show against what the API tells and what was done.

use std::{thread, time::Duration};

use lab::{
    agent::{Agent, Config},
    browser::{Browser, Screen},
    nat::{Nat, Pool, nat},
    topology::Family,
    traffic::{First, Traffic},
    truth, within,
};
use serde_json::{Value, json};

lab::scenarios! {
    Others 20 s:
        the_pages_show_what_the_api_tells_and_are_good_to_read;
    Others 5 s:
        the_browser_complains_where_there_is_something_to_complain_of;
}

const PORT: u16 = 443;
const URL: &str = "http://127.0.0.1:9796";

/// Names as nobody should choose them; the first peer has none but its address.
const NAMES: [&str; 2] =
    ["<script>document.title = 'owned'</script>", "a/b\\c ?c#d %2e \"e\" 'f' & <i>g</i> \u{202e}h"];

/// The rows of the peers, each as an object by the heads of its columns.
const ROWS: &str = "[...document.querySelectorAll('#peers tbody tr')].map(row => Object.fromEntries(
    [...row.cells].map((cell, at) => [document.querySelectorAll('#peers th')[at].textContent, cell.textContent.trim()])))";

/// The page of each peer that has one.
const LINKS: &str = "[...document.querySelectorAll('#peers a')].map(link => [link.textContent, link.href])";

/// What a peer's page says of its ports, by state: in the caption, and drawn.
const PORTS: &str = "Object.fromEntries(['free', 'live', 'time_wait', 'refused'].map(state => {
    const drawn = document.querySelector(`.ports path.${state}`)?.getAttribute('d') ?? '';
    const widths = [...drawn.matchAll(/h(\\d+)v1/g)].map(([, width]) => Number(width));
    return [state, [document.getElementById(`ports-${state}`).textContent, widths.reduce((all, width) => all + width, 0)]];
}))";

fn api(agent: &Agent<'_>, path: &str) -> Value {
    let (status, body) = agent.get(path).expect("the agent answers");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// As pages write a number.
fn written(number: &Value) -> String {
    let digits = number.to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| str::from_utf8(part).ok()).collect();
    grouped.join(",")
}

/// As pages write a name.
fn shown(name: &str) -> String {
    name.replace('\u{202e}', "\u{fffd}")
}

/// The row that an account should have, but for what changes while nothing happens.
fn row(account: &Value) -> Value {
    let pool = &account["pool"];
    let ratio = pool["used_ratio"].as_f64();
    let name = account["peer"].as_str().expect("a name");
    let direction = account["direction"].as_str().expect("a direction");
    let peer = match account["port"].as_u64() {
        Some(port) => format!("{} {direction} {port}", shown(name)),
        None => format!("Everyone else {direction}"),
    };
    let ranges = pool["ranges"].as_array().map_or(&[][..], Vec::as_slice).iter();
    let ranges: Vec<String> = ranges.map(|range| format!("{}–{}", range["low"], range["high"])).collect();
    json!({
        "Peer": peer,
        "Pool used": ratio.map_or_else(String::new, |ratio| format!("{:.0} %", ratio * 100.0)),
        "TIME_WAIT": written(&account["sockets"]["time_wait"]),
        "Open": written(&account["sockets"]["established"]),
        "SYNs repeated": written(&account["syn_retries"]),
        "SYNs refused": written(&account["time_wait_syns"]["refused"]),
        "Pool": ranges.join(", "),
    })
}

/// Asks the API, then the page, then the API, until both answers of the API are the same; then so must be the page.
fn same(
    agent: &Agent<'_>,
    path: &str,
    tell: impl Fn(&Value) -> Value,
    mut page: impl FnMut() -> Value,
) -> Value {
    let both = within(Duration::from_secs(20), || {
        let before = tell(&api(agent, path));
        let shown = page();
        let after = tell(&api(agent, path));
        if before == after { Ok((before, shown)) } else { Err((before, after)) }
    });
    let (told, shown) = both.expect("the API comes to rest");
    assert_eq!(shown, told, "{path}");
    told
}

/// Nothing was hard to read, complained of, or fetched from elsewhere.
fn assert_sound(browser: &mut Browser, what: &str) {
    for dark in [false, true] {
        for width in [1_280, 390] {
            browser.show_on(Screen { width, height: 844, dark });
            assert_eq!(browser.pale_texts(), json!([]), "{what}, {width} px, dark: {dark}");
            assert_eq!(browser.overflow(), 0, "{what}, {width} px");
        }
    }
    assert_eq!(browser.evaluate("document.scripts.length"), 0, "{what}");
    assert_eq!(browser.complaints(), [""; 0], "{what}");
    for url in browser.requests() {
        assert!(url.starts_with(URL), "{what} asked for {url}");
    }
}

fn the_pages_show_what_the_api_tells_and_are_good_to_read() {
    let net = nat(&Pool { family: Family::V4, addresses: 3, ports: Some(2048..=2111), loses_bare_ack: true });
    let groups: Vec<String> = (1..)
        .zip(NAMES)
        .map(|(number, name)| {
            // What JSON quotes, TOML reads.
            let name = json!(name);
            format!("[[peer]]\nname = {name}\ncidrs = [\"{}/32\"]\n", Nat::address(Family::V4, number))
        })
        .collect();
    let config = Config::new(&groups.join(""));
    let agent = Agent::start(&net.server, &config.args());
    let server = Nat::server_address(Family::V4);
    let _service = Traffic::welcome(&net.server, server, PORT, 90, First::Server);
    // The timestamps of two are of one clock, so that the server takes their reused ports; those of the third are not.
    for client in net.clients.iter().take(2) {
        client.sysctl("net.ipv4.tcp_timestamps", "2");
    }
    let mut clients: Vec<Traffic> = net
        .clients
        .iter()
        .map(|client| Traffic::pace(client, server, PORT, 15, 60.0, First::Server))
        .collect();
    for client in &mut clients {
        client.paced();
    }
    // What is left of the load stands still for a minute now.
    let mut browser = Browser::start(&net.server);
    browser.show_on(Screen { width: 1_280, height: 844, dark: false });
    let first = Nat::address(Family::V4, 0).to_string();

    let by_peer = |rows: Value| -> Value {
        let rows = rows.as_array().expect("rows").iter();
        rows.map(|row| (row["Peer"].as_str().expect("a peer").to_owned(), row.clone())).collect()
    };
    let told = same(
        &agent,
        "/api/v1/peers",
        |accounts| by_peer(accounts.as_array().expect("accounts").iter().map(row).collect()),
        || {
            assert_eq!(browser.open(&format!("{URL}/")), 200);
            let mut rows = browser.evaluate(ROWS);
            for row in rows.as_array_mut().expect("rows") {
                let fields = row.as_object_mut().expect("a row");
                fields.retain(|name, _| name != "Runs out in" && name != "Per second");
            }
            by_peer(rows)
        },
    );
    // Something happened, and it is known from elsewhere.
    let row = &told[format!("{first} inbound {PORT}")];
    let sockets = truth::sockets_by_local_port(&net.server);
    let time_wait = sockets[&(Nat::address(Family::V4, 0), PORT, "time_wait".to_owned())];
    assert_eq!(row["TIME_WAIT"], time_wait.to_string());
    assert_eq!(row["Pool"], "2048–2111");
    assert_eq!(browser.evaluate("document.querySelectorAll('.alert').length > 0"), true);
    assert_sound(&mut browser, "the overview");

    let links = browser.evaluate(LINKS);
    let mut links: Vec<(String, String)> = serde_json::from_value(links).expect("pairs");
    // Whoever asks the agent.
    links.retain(|(name, _)| name != "127.0.0.1");
    let mut names: Vec<&str> = links.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    let mut expected = [&NAMES[..], &[&first]].concat();
    expected.sort_unstable();
    assert_eq!(names, expected.into_iter().map(shown).collect::<Vec<_>>());
    for (name, link) in &links {
        assert_eq!(browser.open(link), 200, "{link}");
        let title = browser.evaluate("document.querySelector('h1').firstChild.textContent.trim()");
        assert_eq!(title, **name);
        assert_eq!(browser.evaluate("document.querySelectorAll('.pictures svg').length"), 3, "{name}");
        assert_sound(&mut browser, name);
    }
    same(
        &agent,
        &format!("/api/v1/peers/{first}/inbound/{PORT}/ports"),
        |ports| {
            let states = ["free", "live", "time_wait", "refused"];
            states
                .map(|state| {
                    (state.to_owned(), json!([written(&ports["counts"][state]), ports["counts"][state]]))
                })
                .into_iter()
                .collect()
        },
        || {
            assert_eq!(browser.open(&format!("{URL}/peers/{first}/inbound/{PORT}")), 200);
            browser.evaluate(PORTS)
        },
    );
}

/// What [`assert_sound`] looks for is found where it is.
fn the_browser_complains_where_there_is_something_to_complain_of() {
    let net = nat(&Pool { family: Family::V4, addresses: 1, ports: None, loses_bare_ack: false });
    let _agent = Agent::start(&net.server, &[]);
    let mut browser = Browser::start(&net.server);
    browser.show_on(Screen { width: 390, height: 844, dark: false });
    assert_eq!(browser.open(&format!("{URL}/")), 200);
    browser.evaluate("document.querySelector('h2').style.color = '#808080'");
    browser.evaluate("document.querySelector('footer').style.width = '500px'");
    browser.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://192.0.2.1/picture'}))");
    let pale = browser.pale_texts();
    assert!(pale[0].as_str().is_some_and(|text| text.starts_with("3.9")), "{pale}");
    assert!(browser.overflow().as_u64() > Some(100));
    let refused = within(Duration::from_secs(10), || {
        let complaints = browser.complaints();
        thread::sleep(Duration::from_millis(10));
        browser.evaluate("0");
        if complaints.iter().any(|text| text.contains("Content Security Policy")) {
            Ok(())
        } else {
            Err(complaints)
        }
    });
    assert_eq!(refused, Ok(()));
}
