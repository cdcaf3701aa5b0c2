"""A certificate authority for tests, with servers that have its certificates and clients that trust it."""

from __future__ import annotations

import hashlib
import ssl
import tempfile
import warnings
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates for any name."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Test authority")
        self.certificate = (
            _builder(self._name, self._name, self._key, timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def trust_in(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Let a client's settings trust this authority."""
        context.load_verify_locations(cadata=self.pem)
        return context

    def server_context(self, *names: str, lasts: timedelta = timedelta(hours=1), sha1: bool = False) -> ssl.SSLContext:
        """Settings of a server whose certificate holds ``names``; expired when ``lasts`` is negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(names[0]), self._name, key, lasts)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        if sha1:
            certificate = _signed_with_sha1(certificate, self._key)
        return _server_context(key, certificate)


def self_signed_context(name: str) -> ssl.SSLContext:
    """Settings of a server with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(name), _name(name), key, timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _server_context(key, certificate)


def _signed_with_sha1(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Return a certificate with an obsolete signature, assembled here because the library refuses to create it."""
    with_sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    with_sha1 = bytes.fromhex("300906072a8648ce3d0401")
    signed = certificate.tbs_certificate_bytes
    body = signed[4:] if signed[1] == 0x82 else signed[3:]
    content = _sequence(body.replace(with_sha256, with_sha1, 1))
    digest = hashlib.sha1(content, usedforsecurity=False).digest()
    signature = key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA1())))
    bits = b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature
    return x509.load_der_x509_certificate(_sequence(content + with_sha1 + bits))


def _sequence(content: bytes) -> bytes:
    size = len(content)
    return b"\x30" + (b"\x81" + bytes([size]) if size < 256 else b"\x82" + size.to_bytes(2, "big")) + content


def only_old_tls(context: ssl.SSLContext) -> ssl.SSLContext:
    """Restrict a server to TLS 1.0 and 1.1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + lasts)
    )


def _server_context(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # a server may offer what no client should take
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with tempfile.TemporaryDirectory() as directory:
        chain = Path(directory) / "chain.pem"
        chain.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(chain)
    return context


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
