#include "transport/proof.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstdlib>

#include "base/random_bytes.h"
#include "base/status_macros.h"

namespace tensorferry {

absl::StatusOr<Nonce> RandomNonce() {
  Nonce nonce;
  FERRY_RETURN_IF_ERROR(RandomBytes(nonce.data(), nonce.size()));
  return nonce;
}

// Without SHA-256 nothing can be proved; it does not go away in a process in
// which it once worked.
Proof Prove(absl::string_view key, absl::string_view message) {
  Proof proof;
  unsigned int length = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(message.data()),
           message.size(), proof.data(), &length) == nullptr ||
      length != proof.size()) {
    std::abort();
  }
  return proof;
}

bool SameProof(const Proof& a, const Proof& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace tensorferry
