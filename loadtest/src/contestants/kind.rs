//! All contestants there are: how they are called, what they can play, and how they are started.

use std::path::PathBuf;

use clap::ValueEnum;

use super::direct::Direct;
use super::floor::Floor;
use super::sdk::{self, SdkBehindService, SelfHost};
use super::service::Service;
use super::tokio_relay::{self, TokioRelay};
use super::{Contestant, haproxy, nchan, pushpin};
use crate::coordinator::place::Place;
use crate::coordinator::scenario::Scenario;
use crate::error::LoadError;
use crate::job::Load;
use crate::worker::floor_records::FloorRecords;

/// Who can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContestantKind {
    #[value(skip)]
    Hubring,
    #[value(skip)]
    Floor,
    /// Nothing in between.
    #[value(skip)]
    Direct,
    Haproxy,
    Nchan,
    Pushpin,
    TokioRelay,
    /// ASP.NET Core SignalR by itself.
    SelfHost,
    /// The SDK's app server behind hubring.
    Sdk,
}

impl ContestantKind {
    /// Those that `--peers all` means.
    pub(crate) const PEERS: [Self; 5] = [
        Self::Haproxy,
        Self::Nchan,
        Self::Pushpin,
        Self::TokioRelay,
        Self::SelfHost,
    ];

    /// How it is called in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hubring => "hubring",
            Self::Floor => "floor",
            Self::Direct => "direct",
            Self::Haproxy => "haproxy",
            Self::Nchan => "nchan",
            Self::Pushpin => "pushpin",
            Self::TokioRelay => "tokio-relay",
            Self::SelfHost => "self-host",
            Self::Sdk => "hubring+sdk",
        }
    }

    /// Whether it has anything to say to this load.
    pub(crate) fn can_play(self, load: &Load) -> bool {
        match self {
            Self::Hubring | Self::TokioRelay => true,
            Self::Floor => matches!(
                load,
                Load::Echo { .. } | Load::Broadcast { .. } | Load::SendToConnection { .. }
            ),
            Self::Direct | Self::Haproxy => matches!(load, Load::Echo { .. }),
            Self::Nchan | Self::Pushpin => matches!(load, Load::Broadcast { .. }),
            Self::SelfHost | Self::Sdk => {
                matches!(
                    load,
                    Load::Echo { .. } | Load::Broadcast { .. } | Load::Idle | Load::Connect { .. }
                )
            }
        }
    }

    /// Starts it for this scenario.
    pub(crate) fn start(
        self,
        scenario: &Scenario,
        place: &Place,
    ) -> Result<Box<dyn Contestant>, LoadError> {
        if !self.can_play(&scenario.load) {
            return Err(LoadError::CannotPlay {
                contestant: self.name(),
                scenario: scenario.unit(),
            });
        }
        // Peers get one core: they are compared by CPU time, and each is set up for one thread.
        let core = place.service_cores.first().copied().unwrap_or_default();
        let own_core = place.own_cores.first().copied().unwrap_or_default();
        let stop = &*place.stop;
        Ok(match (self, &place.attached) {
            (Self::Hubring, Some(attached)) => Box::new(attached.clone()),
            (Self::Hubring, None) => Box::new(Service::start(
                &place.service,
                scenario.shards,
                &place.service_cores,
                &place.own_cores,
                stop,
            )?),
            (Self::Direct, _) => Box::new(Direct::new()?),
            (Self::Haproxy, _) => Box::new(haproxy::start(core, own_core, stop)?),
            (Self::Nchan, _) => Box::new(nchan::start(core, own_core, stop)?),
            (Self::Pushpin, _) => Box::new(pushpin::start(core, own_core, stop)?),
            (Self::Floor, _) => {
                let Scenario {
                    load,
                    hub_protocol,
                    payload_bytes,
                    ..
                } = scenario;
                let records = FloorRecords::of(load, *hub_protocol, *payload_bytes);
                let program = beside("hubring-floor")?;
                Box::new(Floor::start(&program, records, core, own_core, stop)?)
            }
            (Self::TokioRelay, _) => {
                let program = beside(tokio_relay::PROGRAM)?;
                Box::new(TokioRelay::start(&program, core, own_core, stop)?)
            }
            (Self::SelfHost, _) => {
                Box::new(SelfHost::start(&sdk::program()?, core, own_core, stop)?)
            }
            (Self::Sdk, _) => {
                let program = sdk::program()?;
                let service = Self::Hubring.start(scenario, place)?;
                let server_connections = scenario.server_connections;
                Box::new(SdkBehindService::start(
                    &program,
                    service,
                    server_connections,
                    own_core,
                    stop,
                )?)
            }
        })
    }
}

/// The program `name` that was built together with this one.
pub(crate) fn beside(name: &str) -> Result<PathBuf, LoadError> {
    let own = std::env::current_exe().map_err(LoadError::OwnPath)?;
    Ok(own.with_file_name(name))
}
