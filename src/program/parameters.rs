//! Connection parameters as libpq reads them: keywords and values, or a URI.

use crate::failure::Failure;
use dragonfly_core::sql::printable;
use dragonfly_core::sql::similar::did_you_mean;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

/// Values by keyword.
pub type Parameters = BTreeMap<String, String>;

/// The keywords with an effect, each with the environment variable of its default.
pub const KEYWORDS: &[(&str, Option<&str>)] = &[
    ("application_name", None),
    ("channel_binding", Some("PGCHANNELBINDING")),
    ("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    ("dbname", Some("PGDATABASE")),
    ("host", Some("PGHOST")),
    ("hostaddr", Some("PGHOSTADDR")),
    ("options", Some("PGOPTIONS")),
    ("passfile", Some("PGPASSFILE")),
    ("password", Some("PGPASSWORD")),
    ("port", Some("PGPORT")),
    ("service", Some("PGSERVICE")),
    ("sslcert", Some("PGSSLCERT")),
    ("sslkey", Some("PGSSLKEY")),
    ("sslmode", Some("PGSSLMODE")),
    ("sslnegotiation", Some("PGSSLNEGOTIATION")),
    ("sslrootcert", Some("PGSSLROOTCERT")),
    ("target_session_attrs", Some("PGTARGETSESSIONATTRS")),
    ("user", Some("PGUSER")),
];

/// The keywords of libpq that are accepted and make no difference here.
const WITHOUT_EFFECT: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
];

/// Reads what psql accepts as the name of a database: a URI, keywords and values, or a name.
pub fn of_text(text: &str) -> Result<Parameters, Failure> {
    let uri = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let parameters = match uri {
        Some(rest) => of_uri(rest)?,
        None if text.contains('=') => of_keywords(text)?,
        None => Parameters::from([("dbname".to_owned(), text.to_owned())]),
    };
    check(&parameters)?;
    Ok(parameters)
}

/// Rejects keywords that libpq does not have, and those that would have an effect there.
pub fn check(parameters: &Parameters) -> Result<(), Failure> {
    for keyword in parameters.keys() {
        let known = KEYWORDS.iter().map(|(known, _)| *known);
        if known.clone().any(|known| known == keyword) || WITHOUT_EFFECT.contains(&&**keyword) {
            continue;
        }
        let message = format!("unknown connection parameter \"{}\"", printable(keyword));
        let meant = did_you_mean(keyword, known.clone());
        let list = format!("Known parameters: {}.", known.collect::<Vec<_>>().join(", "));
        return Err(Failure::new(message).hint(list).meant(meant));
    }
    Ok(())
}

/// Returns the error about a value of a connection parameter.
pub fn unknown(keyword: &str, value: &str, known: &[&str]) -> Failure {
    let failure = Failure::new(format!("invalid {keyword} value: \"{}\"", printable(value)));
    if known.is_empty() { failure } else { failure.hint(format!("Use {}.", known.join(", "))) }
}

fn invalid(why: &str) -> Failure {
    // Not with the text: it can contain a password.
    Failure::new("invalid connection string").detail(why).hint(
        "Examples: \"host=db.example.org dbname=app user=auditor\" and \
         \"postgresql://auditor@db.example.org/app?sslmode=verify-full\".",
    )
}

/// Reads `keyword = value` pairs. A value is in single quotes or ends at white space; a backslash
/// precedes a quote or a backslash.
fn of_keywords(text: &str) -> Result<Parameters, Failure> {
    let mut parameters = Parameters::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let keyword = &rest[..end];
        let Some(after) = rest[end..].trim_start().strip_prefix('=') else {
            return Err(invalid(&format!("\"=\" is missing after \"{}\"", printable(keyword))));
        };
        if keyword.is_empty() {
            return Err(invalid("a keyword is missing before \"=\""));
        }
        let (value, after) = value(after.trim_start())?;
        parameters.insert(keyword.to_owned(), value);
        rest = after.trim_start();
    }
    Ok(parameters)
}

/// Returns a value and what follows it.
fn value(text: &str) -> Result<(String, &str), Failure> {
    let (is_quoted, text) = match text.strip_prefix('\'') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '\'' if is_quoted => return Ok((value, &text[place + 1..])),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c if !is_quoted && c.is_whitespace() => return Ok((value, &text[place..])),
            c => value.push(c),
        }
    }
    if is_quoted { Err(invalid("a quoted value has no end")) } else { Ok((value, "")) }
}

/// Reads what follows the scheme of a URI: `[user[:password]@][host[:port],...][/dbname][?...]`.
fn of_uri(text: &str) -> Result<Parameters, Failure> {
    let mut parameters = Parameters::new();
    let mut set = |keyword: &str, value: &str| -> Result<(), Failure> {
        if !value.is_empty() {
            parameters.insert(keyword.to_owned(), decoded(value)?);
        }
        Ok(())
    };
    let (text, query) = text.split_once('?').map_or((text, ""), |(text, query)| (text, query));
    let (authority, database) = text.split_once('/').unwrap_or((text, ""));
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            set("user", user)?;
            set("password", password)?;
            hosts
        }
        None => authority,
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = host_and_port(host)?;
        names.push(name);
        ports.push(port);
    }
    if names.iter().any(|name| !name.is_empty()) {
        set("host", &names.join(","))?;
    }
    if ports.iter().any(|port| !port.is_empty()) {
        set("port", &ports.join(","))?;
    }
    set("dbname", database)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((keyword, value)) = pair.split_once('=') else {
            return Err(invalid("a parameter of the URI has no \"=\""));
        };
        match decoded(keyword)?.as_str() {
            // JDBC's, which libpq accepts as well.
            "ssl" if value == "true" => set("sslmode", "require")?,
            keyword => set(keyword, value)?,
        }
    }
    Ok(parameters)
}

fn host_and_port(host: &str) -> Result<(&str, &str), Failure> {
    let Some(address) = host.strip_prefix('[') else {
        return Ok(host.split_once(':').unwrap_or((host, "")));
    };
    let Some((address, after)) = address.split_once(']') else {
        return Err(invalid("\"]\" is missing after an IPv6 address"));
    };
    match (after, after.strip_prefix(':')) {
        ("", _) => Ok((address, "")),
        (_, Some(port)) => Ok((address, port)),
        _ => Err(invalid("an IPv6 address is followed by neither \":\" nor \"/\"")),
    }
}

fn decoded(text: &str) -> Result<String, Failure> {
    let bytes = text.as_bytes();
    let is_escape = |place: usize| {
        bytes.get(place + 1..place + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    };
    if !bytes.iter().enumerate().all(|(place, byte)| *byte != b'%' || is_escape(place)) {
        return Err(invalid("\"%\" is not followed by two hexadecimal digits"));
    }
    let value = percent_decode_str(text).decode_utf8();
    let value = value.map_err(|_| invalid("a value is not valid UTF-8"))?;
    if value.contains('\0') {
        return Err(invalid("a value contains %00"));
    }
    Ok(value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let parameters = of_text(text).unwrap_or_else(|failure| panic!("{text}: {failure:?}"));
        parameters.iter().map(|(keyword, value)| format!("{keyword}={value}")).collect()
    }

    #[test]
    fn name_of_a_database_is_neither_uri_nor_keywords() {
        assert_eq!(read("app"), ["dbname=app"]);
        assert_eq!(read("my app"), ["dbname=my app"]);
    }

    #[test]
    fn keywords_are_read_as_libpq_does() {
        assert_eq!(read("host=a  port = 5433"), ["host=a", "port=5433"]);
        assert_eq!(read(r"password=a\ b user=x"), ["password=a b", "user=x"]);
        assert_eq!(read(r"password='it\'s \\ one' user=''"), [r"password=it's \ one", "user="]);
        assert_eq!(read("dbname=a=b"), ["dbname=a=b"]);
        for wrong in ["host=a port", "='a'", "password='a", "host=a =b"] {
            assert!(of_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn uri_is_read_as_libpq_does() {
        assert_eq!(
            read("postgresql://me:s%40cret@db.example.org:5433/app?sslmode=verify-full"),
            [
                "dbname=app",
                "host=db.example.org",
                "password=s@cret",
                "port=5433",
                "sslmode=verify-full",
                "user=me",
            ]
        );
        assert_eq!(read("postgres://"), Vec::<String>::new());
        assert_eq!(
            read("postgresql:///app?host=/tmp&port=1"),
            ["dbname=app", "host=/tmp", "port=1"]
        );
        assert_eq!(read("postgresql://%2Frun%2Fpg/app"), ["dbname=app", "host=/run/pg"]);
        assert_eq!(read("postgresql://[::1]:5/a"), ["dbname=a", "host=::1", "port=5"]);
        assert_eq!(read("postgresql://a:1,b:2/x"), ["dbname=x", "host=a,b", "port=1,2"]);
        assert_eq!(read("postgresql://a,b/x"), ["dbname=x", "host=a,b"]);
        assert_eq!(read("postgresql://h/x?ssl=true"), ["dbname=x", "host=h", "sslmode=require"]);
        for wrong in
            ["postgresql://[::1/a", "postgresql://h/%zz", "postgresql://h/%0", "postgres://h/a?b"]
        {
            assert!(of_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unknown_keyword_is_rejected_and_the_value_is_not_shown() {
        let failure = of_text("hots=a password=secret").unwrap_err();
        assert_eq!(failure.message, "unknown connection parameter \"hots\"");
        assert_eq!(failure.hint.as_deref(), Some("Did you mean \"host\"?"));
        let failure = of_text("password='secret").unwrap_err();
        assert!(!format!("{failure:?}").contains("secret"));
        assert_eq!(read("gssencmode=disable"), ["gssencmode=disable"]);
    }
}
