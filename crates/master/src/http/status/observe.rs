//! Takes what the status page shows from the state of the master.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use relais_cluster::ConnectionAddrs;
use relais_proto::{SlaveId, SlaveReport};

use super::cluster_view::{ClusterView, SlaveView, lag_seconds};
use super::curves::draw;
use super::live_texts::LiveTexts;
use super::monitor::Subject;
use crate::http::site::HttpSite;
use crate::status::SlaveRow;

impl HttpSite {
    /// Updates the histories if a second has passed. Called often by the login thread.
    pub fn update_status(&self) {
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        let report = || self.core.report(ConnectionAddrs::new(here, here));
        self.monitor.update(self.core.uptime(), report);
    }

    /// Returns the present texts for a stream.
    pub(super) fn live_texts(&self, subject: Subject) -> Arc<LiveTexts> {
        let (asker, selected) = subject;
        self.monitor.texts(subject, || LiveTexts::new(&self.cluster_view(asker, selected)))
    }

    /// Takes the present state, with addresses for a client at this viewpoint.
    pub(super) fn cluster_view(
        &self,
        asker: ConnectionAddrs,
        selected: Option<SlaveId>,
    ) -> ClusterView {
        let core = &self.core;
        let report = core.report(asker);
        let linked = core.slaves.all();
        let (order, now_ms) = (self.view.get(), core.time_ms());
        let view = |slave: &SlaveReport, rates| {
            let link = linked.iter().rev().find(|linked| linked.slave == slave.id);
            SlaveView {
                report: slave.clone(),
                row: SlaveRow::new(slave, report.lsn),
                lag_seconds: lag_seconds(order.state(), slave, report.lsn, now_ms),
                agent: link.map(|link| link.agent.clone()),
                rates,
            }
        };
        let (slaves, samples) = self.monitor.with_history(|history| {
            let rated = |slave: &SlaveReport| view(slave, history.rates(slave.id));
            (report.slaves.iter().map(rated).collect(), history.samples(selected))
        });
        drop(order);
        ClusterView {
            slaves,
            selected,
            curves: draw(&samples),
            uptime_seconds: core.uptime().as_secs(),
            certificate_expiry: core.config.certifier.expiry_s(),
            report,
        }
    }
}
