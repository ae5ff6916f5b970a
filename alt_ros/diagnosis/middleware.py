"""The middleware in force: which one, in which domain, under which profile, with what buffers.

Fast DDS as it comes loses camera images: its shared-memory segment (512 kB) is smaller than one
640x480 image, and the kernel's usual UDP buffers (208 KiB) lose an image's fragments. What a
profile asks for, the kernel need not grant.
"""

from __future__ import annotations

import os
import socket
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alt_ros.diagnosis.finding import Finding
from alt_ros.errors import AltError, ConfigurationError

GROUP = "DDS"
SOCKET_BUFFER_BYTES = 8_388_608
SEGMENT_BYTES = 4_194_304
"""Three 640x480 colour images and room."""
FAST_DDS = "rmw_fastrtps"
CYCLONE = "rmw_cyclonedds_cpp"
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
WORKING_FOLDER_PROFILES = ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
LAST_SAFE_DOMAIN = 101
"""Above it the ports lie among those that Linux gives away."""


@dataclass(frozen=True)
class Transports:
    """What a profile gives the participants; 0 where it leaves the default.

    Attributes:
        segment: Shared-memory segment, bytes.
        receive: UDP receive buffer, bytes.
        send: UDP send buffer, bytes.
        shared_memory: Whether participants speak through shared memory.
    """

    segment: int = 0
    receive: int = 0
    send: int = 0
    shared_memory: bool = True


def examine_middleware(variables: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Yield the middleware, the domain, the profile and the buffers.

    Args:
        variables: The environment; this process's unless given.
    """
    surroundings = os.environ if variables is None else variables
    middleware = surroundings.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    yield _middleware(middleware, surroundings)
    yield judge_domain(surroundings)
    if middleware.startswith(FAST_DDS):
        finding, transports = _fast_dds_profile(surroundings)
    elif middleware == CYCLONE:
        finding, transports = _cyclone_profile(surroundings)
    else:
        finding = Finding("DDS profile", True, f"{middleware}: none needed", group=GROUP)
        transports = Transports()
    yield finding
    yield judge_buffers(transports, granted("receive"), granted("send"))


def _middleware(name: str, variables: Mapping[str, str]) -> Finding:
    """Say which RMW is meant, and whether it is installed."""
    how = "RMW_IMPLEMENTATION" if variables.get("RMW_IMPLEMENTATION") else "default"
    prefixes = [p for p in variables.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    folder = Path("share/ament_index/resource_index/rmw_typesupport")
    folders = [Path(p) / folder for p in (*prefixes, sys.prefix) if (Path(p) / folder).is_dir()]
    installed = sorted(
        {f.name for place in folders for f in place.iterdir()} - {"rmw_implementation"}
    )
    detail, subject = f"{name} ({how})", "middleware"
    if folders and name not in installed:
        remedy = f"install {name.replace('_', '-')}, or unset RMW_IMPLEMENTATION"
        found = ", ".join(installed) or "none"
        return Finding(
            subject, False, f"{detail} is not installed, {found} is", remedy, group=GROUP
        )
    if name == "rmw_zenoh_cpp":
        remedy = "nodes find each other through a router: ros2 run rmw_zenoh_cpp rmw_zenohd"
        return Finding(subject, True, detail, remedy, group=GROUP)
    return Finding(subject, True, detail, required=False, group=GROUP)


def judge_domain(variables: Mapping[str, str]) -> Finding:
    """Say in which domain nodes meet, and how far they look."""
    subject = "domain"
    domain = variables.get("ROS_DOMAIN_ID", "") or "0"
    reach = variables.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "SUBNET"
    detail = f"ROS_DOMAIN_ID {domain}, discovery range {reach}"
    peers = variables.get("ROS_STATIC_PEERS", "")
    if peers:
        detail += f", peers {peers}"
    if variables.get("ROS_LOCALHOST_ONLY", "0") == "1":
        detail += ", ROS_LOCALHOST_ONLY"
    if not domain.isdecimal() or int(domain) > 232:
        remedy = f"export ROS_DOMAIN_ID=N with N from 0 to {LAST_SAFE_DOMAIN}"
        return Finding(subject, False, detail, remedy, group=GROUP)
    if reach not in RANGES:
        remedy = f"export ROS_AUTOMATIC_DISCOVERY_RANGE= one of {', '.join(RANGES)}"
        return Finding(subject, False, detail, remedy, group=GROUP)
    if reach == "OFF":
        remedy = "unset ROS_AUTOMATIC_DISCOVERY_RANGE: nodes do not find each other"
        return Finding(subject, False, detail, remedy, group=GROUP)
    if int(domain) > LAST_SAFE_DOMAIN:
        remedy = f"take a domain from 0 to {LAST_SAFE_DOMAIN}: Linux gives its ports to others"
        return Finding(subject, False, detail, remedy, required=False, group=GROUP)
    return Finding(subject, True, detail, required=False, group=GROUP)


def _fast_dds_profile(variables: Mapping[str, str]) -> tuple[Finding, Transports]:
    from alt_ros.nodes import graph

    subject = "DDS profile"
    try:
        name, shipped = graph.dds_profile()
    except AltError as error:
        none = Finding(subject, False, "no nodes", str(error), required=False, group=GROUP)
        return none, Transports()
    current = variables.get(name, "")
    if not current:
        other = next(v for v in PROFILE_VARIABLES if v != name)
        if variables.get(other):
            remedy = f"export {name}={variables[other]}"
            detail = f"{other} is set, this Fast DDS reads {name}"
            return Finding(
                subject, False, detail, remedy, required=False, group=GROUP
            ), Transports()
        here = [f for f in WORKING_FOLDER_PROFILES if Path(f).is_file()]
        detail = f"alt up and the launch files set {name}"
        if here:
            detail += f"; started in this folder, others read ./{here[0]}"
        remedy = f"elsewhere: export {name}={shipped}"
        return Finding(subject, True, detail, remedy, group=GROUP), _read_or_default(shipped)
    file = Path(current)
    if not file.is_file():
        detail, remedy = f"{name}={current}: no such file", f"export {name}={shipped}"
        missing = Finding(subject, False, detail, remedy, group=GROUP)
        return missing, Transports()
    try:
        transports = read_fast_dds(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        remedy = f"mend it, or export {name}={shipped}"
        return Finding(subject, False, f"{current}: {error}", remedy, group=GROUP), Transports()
    return judge_fast_dds(transports, current, f"export {name}={shipped}", variables), transports


def _read_or_default(file: Path) -> Transports:
    try:
        return read_fast_dds(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConfigurationError):
        return Transports()


def read_fast_dds(text: str) -> Transports:
    """Return what the default participant of a Fast DDS profile is given.

    Raises:
        ConfigurationError: The text is no XML, no profile, or names a transport that is not there.
    """
    root = _parse(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root.tag not in ("dds", "profiles"):
        raise ConfigurationError(f"the root must be <dds> or <profiles>, got <{root.tag}>")
    descriptors = {
        (d.findtext("transport_id") or "").strip(): d for d in root.iter("transport_descriptor")
    }
    participants = list(root.iter("participant"))
    default = [p for p in participants if p.get("is_default_profile") == "true"]
    if not default:
        raise ConfigurationError('no participant has is_default_profile="true", so none is used')
    used = [
        (e.text or "").strip() for e in default[0].findall("./rtps/userTransports/transport_id")
    ]
    unknown = sorted(set(used) - set(descriptors))
    if unknown:
        raise ConfigurationError(f"no transport_descriptor has the transport_id {unknown[0]}")
    builtin = default[0].findtext("./rtps/useBuiltinTransports", "true").strip() != "false"
    transports = [descriptors[name] for name in used]
    of_kind = {(t.findtext("type") or "").strip(): t for t in transports}
    udp, memory = of_kind.get("UDPv4"), of_kind.get("SHM")
    return Transports(
        segment=_number(memory, "segment_size"),
        receive=_number(udp, "receiveBufferSize"),
        send=_number(udp, "sendBufferSize"),
        shared_memory=builtin or memory is not None,
    )


def _parse(text: str) -> ElementTree.Element:
    if "<!ENTITY" in text:
        raise ConfigurationError("entities are not read: write the values out")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ConfigurationError(f"it is no XML: {error}") from error


def _number(element: ElementTree.Element | None, name: str) -> int:
    text = "" if element is None else (element.findtext(name) or "").strip()
    if text and not text.isdecimal():
        raise ConfigurationError(f"{name} must be a whole number of bytes, got '{text}'")
    return int(text or 0)


def judge_fast_dds(
    transports: Transports, file: str, remedy: str, variables: Mapping[str, str]
) -> Finding:
    """Judge what a Fast DDS profile asks for."""
    subject = "DDS profile"
    asked = (
        f"shared memory {_size(transports.segment)}, UDP receive {_size(transports.receive)}, "
        f"send {_size(transports.send)}"
    )
    builtin = variables.get("FASTDDS_BUILTIN_TRANSPORTS", "")
    if builtin:
        asked += f"; FASTDDS_BUILTIN_TRANSPORTS {builtin}"
    wrong = ""
    if not transports.shared_memory:
        wrong = "no shared memory: images on one computer go through UDP"
    elif transports.segment < SEGMENT_BYTES:
        wrong = "a shared-memory segment smaller than a few images loses them"
    elif transports.receive < SOCKET_BUFFER_BYTES // 8:
        wrong = "small UDP buffers lose images between computers"
    detail = f"{file}: {asked}" + (f": {wrong}" if wrong else "")
    return Finding(subject, not wrong, detail, remedy if wrong else "", False, GROUP)


def _cyclone_profile(variables: Mapping[str, str]) -> tuple[Finding, Transports]:
    subject = "DDS profile"
    uri = variables.get("CYCLONEDDS_URI", "").strip()
    if not uri:
        remedy = "two computers: put SocketReceiveBufferSize min=8MB into CYCLONEDDS_URI"
        detail = "CYCLONEDDS_URI is not set: Cyclone DDS as it comes"
        return Finding(subject, True, detail, remedy, False, GROUP), Transports()
    try:
        transports = read_cyclone(uri)
    except ConfigurationError as error:
        remedy = "mend it, or unset CYCLONEDDS_URI: no node starts with it"
        return Finding(
            subject, False, f"CYCLONEDDS_URI: {error}", remedy, group=GROUP
        ), Transports()
    detail = (
        f"CYCLONEDDS_URI: UDP receive {_size(transports.receive)}, send {_size(transports.send)}"
    )
    return Finding(subject, True, detail, required=False, group=GROUP), transports


def read_cyclone(uri: str) -> Transports:
    """Return what CYCLONEDDS_URI asks for: files or XML, with commas between.

    Raises:
        ConfigurationError: A file is not there, or is no XML.
    """
    receive = send = 0
    for part in [uri] if uri.startswith("<") else [p.strip() for p in uri.split(",") if p.strip()]:
        text = part
        if not part.startswith("<"):
            file = Path(part.removeprefix("file://"))
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"'{file}' cannot be read: {error}") from error
        root = _parse(text if text.lstrip().startswith("<?xml") else f"<all>{text}</all>")
        for element in root.iter():
            name = element.tag.rpartition("}")[2]
            if name == "SocketReceiveBufferSize":
                receive = _bytes(element.get("min", "")) or receive
            elif name == "SocketSendBufferSize":
                send = _bytes(element.get("min", "")) or send
    return Transports(receive=receive, send=send)


def _bytes(text: str) -> int:
    """Return Cyclone's ``10MB``, ``512 kB`` or ``65536B`` in bytes; 0 for ``default``."""
    digits = "".join(c for c in text if c.isdecimal())
    unit = text.replace(digits, "").strip().lower()
    factors = {"": 1, "b": 1, "kb": 1 << 10, "kib": 1 << 10, "mb": 1 << 20, "mib": 1 << 20}
    return int(digits) * factors.get(unit, 1) if digits else 0


def granted(direction: str) -> int:
    """Return the largest buffer that the kernel gives a UDP socket here, bytes.

    Args:
        direction: ``receive`` or ``send``.
    """
    option = socket.SO_RCVBUF if direction == "receive" else socket.SO_SNDBUF
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, option, 1 << 30)
        except OSError:
            return 0
        size = probe.getsockopt(socket.SOL_SOCKET, option)
    # Linux says twice what it grants: the other half is its own.
    return size // 2 if sys.platform == "linux" else size


def judge_buffers(transports: Transports, receive: int, send: int) -> Finding:
    """Hold what the kernel grants a socket against what the profile asks for.

    Args:
        transports: What the profile asks for.
        receive: Granted, bytes.
        send: Granted, bytes.
    """
    asked = (transports.receive or SOCKET_BUFFER_BYTES, transports.send or SOCKET_BUFFER_BYTES)
    detail = f"the kernel grants receive {_size(receive)}, send {_size(send)}"
    enough = receive >= asked[0] and send >= asked[1]
    if not enough:
        detail += f"; asked for {_size(asked[0])}, {_size(asked[1])}"
    remedy = f"sudo sysctl -w net.core.rmem_max={asked[0]} net.core.wmem_max={asked[1]}"
    subject = "UDP buffers"
    return Finding(subject, enough, detail, "" if enough else remedy, False, GROUP)


def _size(count: int) -> str:
    if count == 0:
        return "default"
    return f"{count / (1 << 20):.3g} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"
