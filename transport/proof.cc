#include "transport/proof.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <cstdlib>

namespace tensorferry {

// Without randomness or SHA-256 nothing can be proved; neither runs out in a
// process in which it once worked.
Nonce RandomNonce() {
  Nonce nonce;
  if (RAND_bytes(nonce.data(), static_cast<int>(nonce.size())) != 1) {
    std::abort();
  }
  return nonce;
}

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
