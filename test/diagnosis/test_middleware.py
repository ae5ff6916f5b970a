from __future__ import annotations

import socket
from pathlib import Path

import pytest

import alt_ros
from alt_ros.diagnosis import middleware
from alt_ros.diagnosis.finding import Finding
from alt_ros.diagnosis.middleware import (
    Transports,
    examine_middleware,
    granted,
    judge_buffers,
    judge_domain,
    judge_fast_dds,
    read_cyclone,
    read_fast_dds,
)
from alt_ros.errors import ConfigurationError

SHIPPED = Path(alt_ros.__file__).resolve().parent.parent / "config" / "fastdds.xml"
MIB = 1 << 20
PROFILE = """<dds xmlns="http://www.eprosima.com"><profiles>
<transport_descriptors><transport_descriptor><transport_id>memory</transport_id>
<type>SHM</type><segment_size>{segment}</segment_size></transport_descriptor>
</transport_descriptors><participant profile_name="p" is_default_profile="{default}"><rtps>
<userTransports><transport_id>{used}</transport_id></userTransports>
<useBuiltinTransports>{builtin}</useBuiltinTransports></rtps></participant></profiles></dds>"""


def profile(segment="1024", default="true", used="memory", builtin="false") -> str:
    return PROFILE.format(segment=segment, default=default, used=used, builtin=builtin)


def found(**variables: str) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine_middleware(variables)}


def test_the_shipped_profile_is_read_and_good():
    transports = read_fast_dds(SHIPPED.read_text())
    assert transports == Transports(32 * MIB, 8 * MIB, 8 * MIB, shared_memory=True)
    assert judge_fast_dds(transports, "fastdds.xml", "", {}).ok


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no XML"),
        ("<dds><profiles>", "no XML"),
        ("<robot/>", "the root must be"),
        ("<dds/>", "is_default_profile"),
        (profile(default="false"), "is_default_profile"),
        (profile(used="other"), "no transport_descriptor has the transport_id other"),
        (profile(segment="half"), "segment_size must be a whole number"),
        ('<!DOCTYPE dds [<!ENTITY a "b">]><dds>&a;</dds>', "entities"),
    ],
)
def test_a_profile_that_is_none_says_why(text, said):
    with pytest.raises(ConfigurationError, match=said):
        read_fast_dds(text)


@pytest.mark.parametrize(
    ("transports", "said"),
    [
        (Transports(shared_memory=False), "no shared memory"),
        (read_fast_dds(profile()), "smaller than a few images"),
        (Transports(32 * MIB, 212_992, 212_992), "small UDP buffers"),
    ],
)
def test_a_profile_that_loses_images_is_told(transports, said):
    finding = judge_fast_dds(transports, "mine.xml", "export the shipped one", {})
    assert not finding.ok
    assert said in finding.detail
    assert finding.remedy == "export the shipped one"


@pytest.mark.parametrize(
    ("variables", "ok", "said"),
    [
        ({}, True, "ROS_DOMAIN_ID 0, discovery range SUBNET"),
        ({"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, True, "7"),
        ({"ROS_DOMAIN_ID": "seven"}, False, "seven"),
        ({"ROS_DOMAIN_ID": "300"}, False, "300"),
        ({"ROS_DOMAIN_ID": "150"}, False, "150"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, False, "OFF"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "HOUSE"}, False, "HOUSE"),
        ({"ROS_STATIC_PEERS": "robot"}, True, "peers robot"),
    ],
)
def test_domain_and_range_are_said_and_bad_ones_told(variables, ok, said):
    finding = judge_domain(variables)
    assert finding.ok == ok
    assert said in finding.detail
    assert ok or finding.remedy


def test_a_profile_of_the_surroundings_is_read(tmp_path):
    pytest.importorskip("rclpy", reason="DDS PROFILE NOT TESTED: rclpy is not installed")
    file = tmp_path / "mine.xml"
    variables = dict.fromkeys(middleware.PROFILE_VARIABLES, str(file))
    missing = found(**variables)["DDS profile"]
    assert missing.state == "wrong"
    assert "no such file" in missing.detail
    assert missing.remedy.startswith("export ")
    file.write_text("no profile")
    broken = found(**variables)["DDS profile"]
    assert broken.state == "wrong"
    assert "no XML" in broken.detail
    file.write_text(profile())
    assert "smaller than a few images" in found(**variables)["DDS profile"].detail
    file.write_text(SHIPPED.read_text())
    assert found(**variables)["DDS profile"].ok


def test_a_variable_that_this_fast_dds_does_not_read_is_told(tmp_path):
    pytest.importorskip("rclpy", reason="DDS PROFILE NOT TESTED: rclpy is not installed")
    from alt_ros.nodes.graph import dds_profile

    name, _ = dds_profile()
    other = next(v for v in middleware.PROFILE_VARIABLES if v != name)
    finding = found(**{other: "mine.xml"})["DDS profile"]
    assert not finding.ok
    assert finding.remedy == f"export {name}=mine.xml"


def test_a_middleware_without_fast_dds_needs_no_such_profile():
    assert found(RMW_IMPLEMENTATION="rmw_zenoh_cpp")["DDS profile"].ok


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            '<CycloneDDS><SocketReceiveBufferSize min="10MB"/></CycloneDDS>',
            Transports(0, 10 * MIB),
        ),
        ('<SocketReceiveBufferSize min="default" max="1MB"/>', Transports()),
        ('<a><SocketSendBufferSize min="512kB"/></a>', Transports(send=512 << 10)),
    ],
)
def test_cyclones_settings_are_read_where_they_stand(uri, expected, tmp_path):
    assert read_cyclone(uri) == expected
    file = tmp_path / "cyclone.xml"
    file.write_text(f'<?xml version="1.0"?>\n{uri}')
    assert read_cyclone(f"file://{file}") == expected
    assert read_cyclone(str(file)) == expected


def test_cyclones_settings_that_cannot_be_read_are_told(tmp_path):
    variables = {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
    assert found(**variables)["DDS profile"].ok
    for uri in (f"file://{tmp_path}/absent.xml", "<CycloneDDS>"):
        finding = found(**variables, CYCLONEDDS_URI=uri)["DDS profile"]
        assert finding.state == "wrong"
        assert "CYCLONEDDS_URI" in finding.remedy


@pytest.mark.parametrize(
    ("asked", "receive", "send", "ok"),
    [
        (Transports(), 8 * MIB, 8 * MIB, True),
        (Transports(), 212_992, 8 * MIB, False),
        (Transports(receive=MIB, send=MIB), 2 * MIB, 2 * MIB, True),
        (Transports(receive=16 * MIB, send=MIB), 8 * MIB, 8 * MIB, False),
    ],
)
def test_what_the_kernel_grants_is_held_against_what_is_asked_for(asked, receive, send, ok):
    finding = judge_buffers(asked, receive, send)
    assert finding.ok == ok
    if not ok:
        size = max(asked.receive, MIB if asked.receive else 8 * MIB)
        assert finding.remedy.startswith(f"sudo sysctl -w net.core.rmem_max={size} ")


def test_the_kernel_grants_what_a_socket_gets():
    limit = Path("/proc/sys/net/core/rmem_max")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        usual = probe.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    assert granted("receive") >= usual > 0
    if limit.is_file():
        assert granted("receive") == int(limit.read_text())
