#include "control/grpc_credentials.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "control/reloaded_file.h"

namespace tensorferry {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

template <class T, void (*Free)(T*)>
struct Freer {
  void operator()(T* object) const { Free(object); }
};
using Certificate = std::unique_ptr<X509, Freer<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY, EVP_PKEY_free>>;
using Bytes = std::unique_ptr<BIO, Freer<BIO, BIO_free_all>>;

absl::StatusOr<Bytes> Open(const std::string& path) {
  FileStamp stamp;
  FERRY_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, &stamp));
  Bytes bytes(BIO_new(BIO_s_mem()));
  BIO_write(bytes.get(), text.data(), static_cast<int>(text.size()));
  return bytes;
}

absl::Status NotPem(const std::string& path, absl::string_view what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": has no ", what, " in PEM"));
}

absl::StatusOr<Certificate> ReadCertificate(const std::string& path) {
  FERRY_ASSIGN_OR_RETURN(const Bytes bytes, Open(path));
  Certificate certificate(
      PEM_read_bio_X509(bytes.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) return NotPem(path, "certificate");
  return certificate;
}

// A key that wants a password must not ask the terminal.
int NoPassword(char*, int, int, void*) { return -1; }

absl::Status CheckPair(const std::string& cert, const std::string& key) {
  FERRY_ASSIGN_OR_RETURN(const Certificate certificate, ReadCertificate(cert));
  FERRY_ASSIGN_OR_RETURN(const Bytes bytes, Open(key));
  const Key own(
      PEM_read_bio_PrivateKey(bytes.get(), nullptr, NoPassword, nullptr));
  if (own == nullptr) return NotPem(key, "private key without a password");
  if (X509_check_private_key(certificate.get(), own.get()) == 1) {
    return absl::OkStatus();
  }
  ERR_clear_error();
  return absl::InvalidArgumentError(
      absl::StrCat(key, " is not the key of ", cert));
}

// A certificate and its key, neither or both.
absl::Status CheckIdentity(const std::string& cert, const std::string& key) {
  if (cert.empty() != key.empty()) {
    return absl::InvalidArgumentError(
        "one of tls_cert and tls_key is given without the other");
  }
  return cert.empty() ? absl::OkStatus() : CheckPair(cert, key);
}

absl::Status CheckReload(absl::Duration every) {
  if (every >= absl::Seconds(1) && every <= absl::Hours(24)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("certificate_reload is ",
                                                 absl::FormatDuration(every),
                                                 ", want 1s to 24h"));
}

template <class Security>
std::shared_ptr<FileWatcherCertificateProvider> Watch(const Security& security,
                                                      const std::string& ca) {
  const auto every = static_cast<unsigned int>(
      absl::ToInt64Seconds(security.certificate_reload));
  return std::make_shared<FileWatcherCertificateProvider>(
      security.tls_key, security.tls_cert, ca, every);
}

}  // namespace

absl::Status CheckSecurity(const ServerSecurity& security) {
  FERRY_RETURN_IF_ERROR(CheckReload(security.certificate_reload));
  FERRY_RETURN_IF_ERROR(CheckIdentity(security.tls_cert, security.tls_key));
  if (security.tls_client_ca.empty()) return absl::OkStatus();
  if (security.tls_cert.empty()) {
    return absl::InvalidArgumentError(
        "tls_client_ca is given without tls_cert and tls_key: only TLS has "
        "client certificates");
  }
  return ReadCertificate(security.tls_client_ca).status();
}

absl::Status CheckSecurity(const ClientSecurity& security) {
  FERRY_RETURN_IF_ERROR(CheckReload(security.certificate_reload));
  FERRY_RETURN_IF_ERROR(CheckIdentity(security.tls_cert, security.tls_key));
  if (!security.tls_ca.empty()) {
    return ReadCertificate(security.tls_ca).status();
  }
  if (security.tls_cert.empty() && security.server_name.empty()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "tls_cert or server_name is given without tls_ca: whom to trust?");
}

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    const ServerSecurity& security) {
  if (security.tls_cert.empty()) return grpc::InsecureServerCredentials();
  grpc::experimental::TlsServerCredentialsOptions options(
      Watch(security, security.tls_client_ca));
  options.watch_identity_key_cert_pairs();
  if (!security.tls_client_ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(
        security.token_file.empty()
            ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(
    const ClientSecurity& security) {
  if (security.tls_ca.empty()) return grpc::InsecureChannelCredentials();
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(security, security.tls_ca));
  options.watch_root_certs();
  if (!security.tls_cert.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace tensorferry
