//! The .NET contestants: a hub of ASP.NET Core SignalR that serves its clients itself, which is what users otherwise run, and the same hub
//! behind hubring, connected by the SDK.
//!
//! Both run the same program. It is named by an environment variable and has to be: a hub at `/chat` with a method `Echo(text)`,
//! `/rate/{n}/{letters}`, which calls `recv("rate", text)` at all clients `n` times, and `/healthz`; `SELFHOST=1` makes it serve without
//! a service, otherwise `ASRS` is its connection string and `CONNS` the number of its server connections.
//!
//! Where it runs: self-hosted it is what is measured, and has the service's core to itself. Behind hubring it has the load generator's
//! core, which costs it time but no CPU time. .NET fits itself to the cores that it may use: with one core, in either case, it
//! collects garbage in the way of a workstation, which takes less memory and as a rule less CPU time than that of a server. Nothing else
//! is chosen for it but this: neither side gives up a silent peer, nor says that it is still there. So nothing is under way while other
//! contestants have their turn, and memory and CPU time are those of messages and connections alone, as they are with hubring.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::Value;

use super::Contestant;
use super::process::{ProgramUnderTest, free_addresses};
use crate::error::LoadError;
use crate::job::{Target, Watched};
use crate::metrics::{self, Metrics};
use crate::process_figures;

/// Names the program.
const PROGRAM_VARIABLE: &str = "HUBRING_SDK_APP";

/// The path of its hub, and the hub's name among its server connections.
const HUB_PATH: &str = "/chat";
const HUB: &str = "chat";

/// Longer than any measurement.
const SILENCE_SECONDS: &str = "1000000";

/// .NET first compiles in haste, then once more what is called often.
pub(crate) const SETTLING_TIME: Duration = Duration::from_secs(5);

/// Under which names CPU time and memory are asked for.
const SERVICE: &str = "service";
const APP_SERVER: &str = "app server";

/// Where the program is, if the user has one.
pub(crate) fn program() -> Result<PathBuf, LoadError> {
    let path = std::env::var_os(PROGRAM_VARIABLE).filter(|path| !path.is_empty());
    path.map(PathBuf::from).ok_or(LoadError::NoSdkApp)
}

/// A hub that serves its clients itself.
#[derive(Debug)]
pub(crate) struct SelfHost {
    app: AppServer,
}

impl SelfHost {
    /// Starts the program at `path` and waits until it serves.
    pub(crate) fn start(
        path: &Path,
        core: usize,
        own_core: usize,
        stop: &AtomicBool,
    ) -> Result<Self, LoadError> {
        let settings = [("SELFHOST", "1".as_ref())];
        let app = AppServer::start(path, settings, core, own_core, stop)?;
        Ok(Self { app })
    }
}

impl Contestant for SelfHost {
    fn name(&self) -> &'static str {
        "self-host"
    }

    fn target(&self) -> Target {
        Target::SelfHost {
            address: self.app.address,
            path: HUB_PATH.to_owned(),
        }
    }

    fn watched(&self) -> Vec<Watched> {
        vec![self.app.watched(SERVICE)]
    }

    fn resident_bytes(&self, _watched: &str) -> Result<u64, LoadError> {
        self.app.resident_bytes()
    }

    fn settling_time(&self) -> Duration {
        SETTLING_TIME
    }

    fn version(&self) -> Option<String> {
        self.app.runtime_version.clone()
    }
}

/// A service with the hub behind it.
pub(crate) struct SdkBehindService {
    // Ends first, so that it has no time to miss the service.
    app: AppServer,
    service: Box<dyn Contestant>,
    target: Target,
}

impl SdkBehindService {
    /// Starts the program at `path` behind a service that runs already, and waits until all server connections are there.
    pub(crate) fn start(
        path: &Path,
        service: Box<dyn Contestant>,
        server_connections: u32,
        own_core: usize,
        stop: &AtomicBool,
    ) -> Result<Self, LoadError> {
        let Target::Service {
            address,
            audience_host,
            access_key,
            ..
        } = service.target()
        else {
            return Err(LoadError::NoService(service.name()));
        };
        let connection_string = format!(
            "Endpoint=http://{};Port={};AccessKey={};Version=1.0;",
            address.ip(),
            address.port(),
            &*access_key
        );
        let server_connections = server_connections.to_string();
        let settings = [
            ("ASRS", connection_string.as_ref()),
            ("CONNS", server_connections.as_ref()),
        ];
        let app = AppServer::start(path, settings, own_core, own_core, stop)?;
        let target = Target::Service {
            address,
            audience_host,
            hub: HUB.to_owned(),
            access_key,
            app_server_elsewhere: true,
            app_server: Some(app.address),
        };
        Ok(Self {
            app,
            service,
            target,
        })
    }
}

impl Contestant for SdkBehindService {
    fn name(&self) -> &'static str {
        "hubring+sdk"
    }

    fn target(&self) -> Target {
        self.target.clone()
    }

    fn watched(&self) -> Vec<Watched> {
        let mut watched = self.service.watched();
        watched.push(self.app.watched(APP_SERVER));
        watched
    }

    fn resident_bytes(&self, watched: &str) -> Result<u64, LoadError> {
        if watched == APP_SERVER {
            self.app.resident_bytes()
        } else {
            self.service.resident_bytes(watched)
        }
    }

    fn metrics(&self) -> Result<Option<Metrics>, LoadError> {
        self.service.metrics()
    }

    fn settling_time(&self) -> Duration {
        SETTLING_TIME
    }

    fn version(&self) -> Option<String> {
        let parts = [&self.app.runtime_version, &self.app.sdk_version];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// The program, running.
#[derive(Debug)]
struct AppServer {
    program: ProgramUnderTest,
    address: SocketAddr,
    runtime_version: Option<String>,
    sdk_version: Option<String>,
}

impl AppServer {
    fn start<const N: usize>(
        path: &Path,
        settings: [(&str, &OsStr); N],
        core: usize,
        own_core: usize,
        stop: &AtomicBool,
    ) -> Result<Self, LoadError> {
        let [address] = free_addresses()?;
        let mut command = Command::new(path);
        command
            .args(["--urls", &format!("http://{address}")])
            .envs([("QUIET", "1"), ("LOG", "None")])
            .envs([
                ("KEEPALIVE", SILENCE_SECONDS),
                ("CLIENT_TIMEOUT", SILENCE_SECONDS),
            ])
            .envs(settings);
        let mut program = ProgramUnderTest::start(&mut command, core, own_core)?;
        program.wait_until(stop, || metrics::is_healthy(address))?;
        Ok(Self {
            program,
            address,
            runtime_version: runtime_version(path),
            sdk_version: sdk_version(path),
        })
    }

    /// All its threads: who serves connections, collects garbage or compiles is its own affair.
    fn watched(&self, name: &str) -> Watched {
        Watched {
            name: name.to_owned(),
            processes: vec![self.program.id()],
            threads: String::new(),
        }
    }

    fn resident_bytes(&self) -> Result<u64, LoadError> {
        process_figures::resident_bytes(&self.program.id().to_string())
    }
}

/// The .NET that the program runs on, from the file that names it to its host.
fn runtime_version(program: &Path) -> Option<String> {
    let config = json_beside(program, "runtimeconfig.json")?;
    let options = config.get("runtimeOptions")?;
    let lists = [options.get("includedFrameworks"), options.get("frameworks")];
    let frameworks = lists.into_iter().flatten().filter_map(Value::as_array);
    let version = frameworks
        .flatten()
        .chain(options.get("framework"))
        .find_map(|framework| framework.get("version")?.as_str())?;
    Some(format!(".NET {version}"))
}

/// The SDK that the program was built with.
fn sdk_version(program: &Path) -> Option<String> {
    let dependencies = json_beside(program, "deps.json")?;
    let libraries = dependencies.get("libraries")?.as_object()?;
    let version = libraries
        .keys()
        .find_map(|name| name.strip_prefix("Microsoft.Azure.SignalR/"))?;
    Some(format!("SDK {version}"))
}

fn json_beside(program: &Path, extension: &str) -> Option<Value> {
    let text = std::fs::read(program.with_added_extension(extension)).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_files_beside_the_program() {
        let folder = std::env::temp_dir().join(format!("hubring-sdk-{}", std::process::id()));
        let program = folder.join("App");
        std::fs::create_dir_all(&folder).unwrap();
        let versions = |config: &str, dependencies: &str| {
            std::fs::write(folder.join("App.runtimeconfig.json"), config).unwrap();
            std::fs::write(folder.join("App.deps.json"), dependencies).unwrap();
            (runtime_version(&program), sdk_version(&program))
        };
        let expected = (
            Some(".NET 10.0.1".to_owned()),
            Some("SDK 1.34.0".to_owned()),
        );
        let framework = r#"{"name": "Microsoft.NETCore.App", "version": "10.0.1"}"#;
        for (name, value) in [
            ("includedFrameworks", format!("[{framework}]")),
            ("frameworks", format!("[{framework}]")),
            ("framework", framework.to_owned()),
        ] {
            let config = format!(r#"{{"runtimeOptions": {{"{name}": {value}}}}}"#);
            let dependencies =
                r#"{"libraries": {"App/1.0.0": {}, "Microsoft.Azure.SignalR/1.34.0": {}}}"#;
            assert_eq!(versions(&config, dependencies), expected);
        }
        assert_eq!(versions("{}", "not JSON"), (None, None));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
