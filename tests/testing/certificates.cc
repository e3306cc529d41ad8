#include "tests/testing/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace tensorferry::testing {
namespace {

void Check(bool ok) {
  if (!ok) std::abort();
}

void AddExtension(X509* certificate, X509* issuer, int nid,
                  const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension =
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  Check(extension != nullptr);
  Check(X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

// A new key and a certificate for it that is not signed yet, valid for a day.
X509* NewCertificate(const std::string& common_name, EVP_PKEY* key) {
  static long serial = 0;
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 24 * 3600);
  X509_set_pubkey(certificate, key);
  X509_NAME_add_entry_by_txt(
      X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
      reinterpret_cast<const unsigned char*>(common_name.data()),
      static_cast<int>(common_name.size()), -1, 0);
  return certificate;
}

template <class Write>
void WriteFile(const std::string& path, Write write) {
  const std::string fresh = absl::StrCat(path, ".new");
  std::FILE* file = std::fopen(fresh.c_str(), "w");
  Check(file != nullptr);
  Check(write(file) == 1);
  Check(std::fclose(file) == 0);
  Check(std::rename(fresh.c_str(), path.c_str()) == 0);
}

void WritePem(const std::string& path, X509* certificate) {
  WriteFile(path,
            [&](std::FILE* file) { return PEM_write_X509(file, certificate); });
}

}  // namespace

struct CertificateAuthority::Pair {
  EVP_PKEY* key = nullptr;
  X509* certificate = nullptr;
};

CertificateAuthority::CertificateAuthority(const std::string& name)
    : own_(std::make_unique<Pair>()) {
  own_->key = EVP_EC_gen("P-256");
  own_->certificate = NewCertificate(name, own_->key);
  X509* const self = own_->certificate;
  X509_set_issuer_name(self, X509_get_subject_name(self));
  AddExtension(self, self, NID_basic_constraints, "critical,CA:TRUE");
  Check(X509_sign(self, own_->key, EVP_sha256()) > 0);
}

CertificateAuthority::~CertificateAuthority() {
  X509_free(own_->certificate);
  EVP_PKEY_free(own_->key);
}

void CertificateAuthority::WriteCertificate(const std::string& path) const {
  WritePem(path, own_->certificate);
}

void CertificateAuthority::Issue(const std::string& common_name,
                                 const std::string& alternative_names,
                                 const std::string& cert_path,
                                 const std::string& key_path) const {
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  X509* const certificate = NewCertificate(common_name, key);
  X509_set_issuer_name(certificate, X509_get_subject_name(own_->certificate));
  if (!alternative_names.empty()) {
    AddExtension(certificate, own_->certificate, NID_subject_alt_name,
                 alternative_names);
  }
  Check(X509_sign(certificate, own_->key, EVP_sha256()) > 0);
  WriteFile(key_path, [&](std::FILE* file) {
    return PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr,
                                nullptr);
  });
  WritePem(cert_path, certificate);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

}  // namespace tensorferry::testing
