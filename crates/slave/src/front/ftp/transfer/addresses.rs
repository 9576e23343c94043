//! PASV, EPSV, PORT and EPRT: how the next data connection comes about.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use relais_ftp::{EpsvRequest, Reply, address};

use crate::front::ftp::session::{CommandResult, FtpSession};

/// PASV (RFC 959 section 4.1.2).
pub fn passive(ftp: &mut FtpSession) -> CommandResult {
    refuse_after_epsv_all(ftp, "PASV")?;
    let config = &ftp.context.config;
    let public = config.public.map_or(ftp.data.peer().local().ip(), |public| public);
    let IpAddr::V4(public) = public.to_canonical() else {
        // The reply has no form for an IPv6 address.
        return Err(Reply::new(425, "PASV is for IPv4; use EPSV").into());
    };
    let port = ftp.data.listen(config.passive.as_ref())?;
    Ok(Reply::new(227, address::format_pasv(SocketAddrV4::new(public, port))))
}

/// EPSV (RFC 2428 section 3), and EPSV ALL (section 4).
pub fn extended_passive(ftp: &mut FtpSession, request: EpsvRequest) -> CommandResult {
    let is_ipv4 = ftp.data.peer().client().is_ipv4();
    match request {
        EpsvRequest::All => {
            ftp.data.set_epsv_only();
            return Ok(Reply::new(200, "EPSV ALL: only EPSV is accepted from now on"));
        }
        EpsvRequest::Ipv4 if !is_ipv4 => return Err(other_protocol(2).into()),
        EpsvRequest::Ipv6 if is_ipv4 => return Err(other_protocol(1).into()),
        _ => {}
    }
    let port = ftp.data.listen(ftp.context.config.passive.as_ref())?;
    Ok(Reply::new(229, address::format_epsv(port)))
}

/// PORT (RFC 959 section 4.1.2) and EPRT (RFC 2428 section 2), restricted by RFC 2577 section 3.
pub fn active(ftp: &mut FtpSession, command: &str, to: SocketAddr) -> CommandResult {
    refuse_after_epsv_all(ftp, command)?;
    let usable = if ftp.data.peer().client().is_ipv4() { 1 } else { 2 };
    if (usable == 1) != to.ip().to_canonical().is_ipv4() {
        return Err(other_protocol(usable).into());
    }
    ftp.data.set_target(to)?;
    Ok(Reply::new(200, format!("{command}: done")))
}

fn refuse_after_epsv_all(ftp: &FtpSession, command: &str) -> Result<(), Reply> {
    match ftp.data.is_epsv_only() {
        true => Err(Reply::new(503, format!("{command} is not allowed after EPSV ALL"))),
        false => Ok(()),
    }
}

/// The reply of RFC 2428 section 3, which names the protocol of the control connection.
fn other_protocol(usable: u8) -> Reply {
    Reply::new(522, format!("Network protocol not supported, use ({usable})"))
}
