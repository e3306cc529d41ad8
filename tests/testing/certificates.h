// X.509 certificates for tests, made on the spot.
#ifndef TENSORFERRY_TESTS_TESTING_CERTIFICATES_H_
#define TENSORFERRY_TESTS_TESTING_CERTIFICATES_H_

#include <memory>
#include <string>

namespace tensorferry::testing {

// A certificate authority of its own. Files are written whole, by renaming.
class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& name);
  ~CertificateAuthority();

  void WriteCertificate(const std::string& path) const;
  // A certificate that the authority signed, and its key. `alternative_names`
  // is "DNS:localhost,IP:127.0.0.1"; empty: none, only the common name.
  void Issue(const std::string& common_name,
             const std::string& alternative_names, const std::string& cert_path,
             const std::string& key_path) const;

 private:
  struct Pair;
  std::unique_ptr<Pair> own_;
};

}  // namespace tensorferry::testing

#endif  // TENSORFERRY_TESTS_TESTING_CERTIFICATES_H_
