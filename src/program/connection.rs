//! A connection to a server, with the parameters that libpq takes: options of the command line,
//! a connection string, a service, environment variables, `~/.pgpass`.

use crate::environment::Environment;
use crate::failure::Failure;
use crate::parameters::{KEYWORDS, Parameters, check, of_text, unknown};
use crate::passfile::{self, Login};
use crate::service;
use crate::tls::{self, Tls};
use clap::Args;
use dragonfly_core::sql::printable;
use postgres::config::{ChannelBinding, SslMode, SslNegotiation, TargetSessionAttrs};
use postgres::error::SqlState;
use postgres::{Client, Config};
use std::error::Error;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How the program connects.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Database name, connection URI, or connection string of keywords and values
    #[arg(value_name = "CONNECTION")]
    connection: Option<String>,
    /// Host name or socket folder [env: PGHOST]
    #[arg(short = 'h', long, value_name = "HOST")]
    host: Option<String>,
    /// Port [env: PGPORT]
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
    /// Role that connects [env: PGUSER]
    #[arg(short = 'U', long, value_name = "ROLE")]
    username: Option<String>,
    /// Database name, connection URI, or connection string [env: PGDATABASE]
    #[arg(short, long, value_name = "NAME", conflicts_with = "connection")]
    dbname: Option<String>,
}

impl ConnectionArgs {
    /// Returns the arguments for a connection string.
    pub fn of_text(connection: &str) -> Self {
        Self { connection: Some(connection.to_owned()), ..Self::default() }
    }

    /// Connects to the first host that accepts the connection.
    pub fn connect(&self) -> Result<Client, Failure> {
        let environment = Environment::of_process();
        let parameters = self.parameters(&environment)?;
        let mut last = None;
        for target in targets(&parameters, &environment)? {
            match target.connect(&parameters, &environment) {
                Ok(client) => return Ok(client),
                Err(failure) => {
                    if let Some(earlier) = last.replace(failure) {
                        Failure::warn(&earlier);
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Failure::new("there is no host to connect to")))
    }

    /// Returns the parameters: of the command line, then of the service, then of the environment.
    fn parameters(&self, environment: &Environment) -> Result<Parameters, Failure> {
        let mut parameters = Parameters::new();
        if let Some(text) = self.connection.as_ref().or(self.dbname.as_ref()) {
            parameters = of_text(text)?;
            if parameters.contains_key("password") {
                visible_password().warn();
            }
        }
        let port = self.port.map(|port| port.to_string());
        let options = [("host", &self.host), ("port", &port), ("user", &self.username)];
        for (keyword, value) in options {
            if let Some(value) = value {
                parameters.insert(keyword.to_owned(), value.clone());
            }
        }
        let service = parameters.get("service").map(String::as_str);
        if let Some(name) = service.or_else(|| environment.variable("PGSERVICE")) {
            for (keyword, value) in service::parameters(name, environment)? {
                parameters.entry(keyword).or_insert(value);
            }
        }
        for (keyword, variable) in KEYWORDS {
            if let Some(value) = variable.and_then(|variable| environment.variable(variable)) {
                parameters.entry((*keyword).to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        parameters.retain(|_, value| !value.is_empty());
        check(&parameters)?;
        Ok(parameters)
    }
}

fn visible_password() -> Failure {
    Failure::new("the connection string on the command line has a password")
        .detail("other users of this machine see it in the list of processes")
        .hint("Use PGPASSWORD, ~/.pgpass or a service.")
}

/// A server to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// A name, an address, or the folder of a socket.
    host: String,
    /// Its address, where it is given.
    address: Option<String>,
    port: u16,
}

/// Returns the servers that the parameters name, in their order.
fn targets(parameters: &Parameters, environment: &Environment) -> Result<Vec<Target>, Failure> {
    let list = |keyword: &str| -> Vec<&str> {
        parameters.get(keyword).map(|value| value.split(',').collect()).unwrap_or_default()
    };
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = hosts.len().max(addresses.len()).max(1);
    let agree = |some: &[&str]| some.is_empty() || some.len() == count;
    if !agree(&hosts) || !agree(&addresses) || !(agree(&ports) || ports.len() == 1) {
        return Err(Failure::new(format!(
            "could not match {} ports and {} addresses to {} hosts",
            ports.len(),
            addresses.len(),
            hosts.len()
        )));
    }
    let target = |place: usize| {
        let port = match ports.get(place).or(ports.first()) {
            None | Some(&"") => 5432,
            Some(text) => text.trim().parse().map_err(|_| {
                Failure::new(format!("invalid port number \"{}\"", printable(text)))
            })?,
        };
        let address = addresses.get(place).filter(|address| !address.is_empty());
        let address = address.map(|address| (*address).to_owned());
        let host = match hosts.get(place) {
            Some(host) if !host.is_empty() => (*host).to_owned(),
            _ => address.clone().unwrap_or_else(|| default_host(port, environment)),
        };
        Ok(Target { host, address, port })
    };
    (0..count).map(target).collect()
}

/// The folders in which distributions put the socket of a server.
const SOCKET_FOLDERS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// Returns the folder in which there is a socket; otherwise the name of this machine.
fn default_host(port: u16, _: &Environment) -> String {
    let has_socket = |folder: &&str| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists();
    SOCKET_FOLDERS.into_iter().find(has_socket).unwrap_or("localhost").to_owned()
}

/// How long the program waits for a server by default. libpq waits as long as the system does.
const TIMEOUT: u64 = 30;

impl Target {
    fn is_socket(&self) -> bool {
        self.host.starts_with(['/', '@'])
    }

    fn connect(&self, parameters: &Parameters, env: &Environment) -> Result<Client, Failure> {
        let tls = Tls::of(parameters, env)?;
        let config = self.config(parameters, env, &tls)?;
        let connector = tls::connector(&tls)?;
        let Some(limit) = config.get_connect_timeout().copied() else {
            return config.connect(connector).map_err(|error| self.failure(&error));
        };
        // The driver's limit is for the address alone; libpq's includes the handshake. A thread
        // that still waits ends with the program.
        let (to, from) = mpsc::channel();
        thread::spawn(move || drop(to.send(config.connect(connector))));
        match from.recv_timeout(limit) {
            Ok(connected) => connected.map_err(|error| self.failure(&error)),
            Err(_) => Err(self.failed().detail("timeout expired")),
        }
    }

    fn config(
        &self,
        parameters: &Parameters,
        environment: &Environment,
        tls: &Tls,
    ) -> Result<Config, Failure> {
        let given = |keyword: &str| parameters.get(keyword).map(String::as_str);
        let user = match given("user") {
            Some(user) => user.to_owned(),
            None => whoami::username().map_err(|error| {
                Failure::new("could not determine the name of the user")
                    .detail(error.to_string())
                    .hint("Use -U ROLE or PGUSER.")
            })?,
        };
        let database = given("dbname").unwrap_or(&user);
        let mut config = Config::new();
        config.host(&self.host).port(self.port).user(&user).dbname(database);
        config.application_name(given("application_name").unwrap_or("dragonfly-guard"));
        if let Some(address) = &self.address {
            let invalid = || Failure::new(format!("invalid address \"{}\"", printable(address)));
            config.hostaddr(address.parse().map_err(|_| invalid())?);
        }
        // libpq looks for the password of a default socket under this name.
        let is_default = SOCKET_FOLDERS.contains(&self.host.as_str());
        let host = if is_default { "localhost" } else { &self.host };
        let login = Login { host, port: self.port, database, user: &user };
        let password = given("password").map(str::to_owned);
        let stored = || passfile::password(login, given("passfile"), environment);
        if let Some(password) = password.or_else(stored) {
            config.password(password);
        }
        if let Some(options) = given("options") {
            config.options(options);
        }
        let seconds = match given("connect_timeout") {
            None => TIMEOUT,
            Some(text) => text
                .trim()
                .parse::<i64>()
                .map_err(|_| unknown("connect_timeout", text, &[]))?
                .max(0) as u64,
        };
        if seconds > 0 {
            config.connect_timeout(Duration::from_secs(seconds));
        }
        // A socket has no TLS, whatever sslmode says.
        config.ssl_mode(if self.is_socket() { SslMode::Disable } else { tls.mode.of_driver() });
        self.negotiation(&mut config, parameters)?;
        Ok(config)
    }

    fn negotiation(&self, config: &mut Config, parameters: &Parameters) -> Result<(), Failure> {
        let given = |keyword: &str| parameters.get(keyword).map(String::as_str);
        config.channel_binding(match given("channel_binding") {
            None | Some("prefer") => ChannelBinding::Prefer,
            Some("disable") => ChannelBinding::Disable,
            Some("require") => ChannelBinding::Require,
            Some(other) => {
                return Err(unknown("channel_binding", other, &["disable", "prefer", "require"]));
            }
        });
        match given("sslnegotiation") {
            None | Some("postgres") => {}
            Some("direct") if self.is_socket() => {}
            Some("direct") => {
                config.ssl_negotiation(SslNegotiation::Direct);
            }
            Some(other) => return Err(unknown("sslnegotiation", other, &["direct", "postgres"])),
        }
        config.target_session_attrs(match given("target_session_attrs") {
            // An audit reads: where a standby is preferred, any server will do.
            None | Some("any" | "prefer-standby") => TargetSessionAttrs::Any,
            Some("read-write" | "primary") => TargetSessionAttrs::ReadWrite,
            Some("read-only" | "standby") => TargetSessionAttrs::ReadOnly,
            Some(other) => {
                let known =
                    ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"];
                return Err(unknown("target_session_attrs", other, &known));
            }
        });
        Ok(())
    }

    fn failed(&self) -> Failure {
        let Self { host, address, port } = self;
        let at = match address {
            Some(address) if address != host => format!(" ({})", printable(address)),
            _ => String::new(),
        };
        let host = printable(host);
        let server = if self.is_socket() {
            format!("connection to server on socket \"{host}/.s.PGSQL.{port}\" failed")
        } else {
            format!("connection to server at \"{host}\"{at}, port {port} failed")
        };
        Failure::new(server)
    }

    fn failure(&self, error: &postgres::Error) -> Failure {
        let failure = self.failed().detail(cause(error));
        let is_password_missing =
            error.source().is_some_and(|e| e.to_string() == "password missing");
        match error.code() {
            Some(code) if *code == SqlState::INVALID_PASSWORD => failure.hint(PASSWORD),
            None if is_password_missing => failure.hint(PASSWORD),
            _ => failure,
        }
    }
}

const PASSWORD: &str =
    "Set PGPASSWORD, or add a line to ~/.pgpass: host:port:database:user:password";

/// Returns what the server or the driver says about an error.
pub fn cause(error: &postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        // What a server says must not control the terminal, or the log of a pipeline.
        let mut text = format!("{}: {}", error.severity(), printable(error.message()));
        if let Some(detail) = error.detail() {
            text.push_str(&format!("\n{}", printable(detail)));
        }
        return text;
    }
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        inner = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn with(text: &str, environment: &Environment) -> Parameters {
        ConnectionArgs::of_text(text).parameters(environment).unwrap()
    }

    #[test]
    fn option_precedes_string_service_and_environment() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[s]\nuser=service\nport=1\nhost=service\n").unwrap();
        let path = file.path().to_str().unwrap();
        let environment = Environment::of(
            [("PGSERVICEFILE", path), ("PGSERVICE", "s"), ("PGUSER", "env"), ("PGDATABASE", "env")],
            None,
        );
        let mut args = ConnectionArgs::of_text("port=2 host=string");
        args.host = Some("option".into());
        let parameters = args.parameters(&environment).unwrap();
        let value = |keyword: &str| parameters[keyword].as_str();
        assert_eq!(
            [value("host"), value("port"), value("user"), value("dbname")],
            ["option", "2", "service", "env"]
        );
    }

    #[test]
    fn several_hosts_have_one_port_or_each_its_own() {
        let environment = Environment::default();
        let of = |text: &str| targets(&with(text, &environment), &environment);
        let ports = |text: &str| -> Vec<u16> { of(text).unwrap().iter().map(|t| t.port).collect() };
        assert_eq!(ports("host=a,b port=1,2"), [1, 2]);
        assert_eq!(ports("host=a,b port=1"), [1, 1]);
        assert_eq!(ports("host=a,b"), [5432, 5432]);
        assert!(of("host=a,b port=1,2,3").is_err());
        assert!(of("host=a port=x").is_err());
        let target = &of("hostaddr=127.0.0.1 port=7").unwrap()[0];
        assert_eq!((target.host.as_str(), target.port), ("127.0.0.1", 7));
    }

    #[test]
    fn socket_is_used_without_tls_whatever_sslmode_says() {
        let environment = Environment::default();
        let config = |text: &str| {
            let parameters = with(text, &environment);
            let tls = Tls::of(&parameters, &environment).unwrap();
            targets(&parameters, &environment).unwrap()[0].config(&parameters, &environment, &tls)
        };
        let mode = |text: &str| config(text).unwrap().get_ssl_mode();
        assert_eq!(mode("host=/tmp sslmode=require user=u"), SslMode::Disable);
        assert_eq!(mode("host=a sslmode=verify-full user=u"), SslMode::Require);
        assert_eq!(mode("host=a user=u"), SslMode::Prefer);
        assert!(config("host=a user=u channel_binding=maybe").is_err());
        let config = config("host=a user=u").unwrap();
        assert_eq!(
            (config.get_dbname(), config.get_application_name()),
            (Some("u"), Some("dragonfly-guard"))
        );
    }

    #[test]
    fn connection_that_is_refused_is_a_failure() {
        let failure =
            ConnectionArgs::of_text("host=127.0.0.1 port=1 user=u").connect().err().unwrap();
        assert!(failure.message.ends_with("\"127.0.0.1\", port 1 failed"), "{failure:?}");
        assert!(failure.detail.unwrap().contains("refused"));
    }
}
