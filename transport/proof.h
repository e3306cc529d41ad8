#ifndef TENSORFERRY_TRANSPORT_PROOF_H_
#define TENSORFERRY_TRANSPORT_PROOF_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tensorferry {

using Nonce = std::array<uint8_t, 32>;
using Proof = std::array<uint8_t, 32>;

// INTERNAL: the system gives no random bytes.
absl::StatusOr<Nonce> RandomNonce();
// HMAC-SHA256.
Proof Prove(absl::string_view key, absl::string_view message);
// Takes as long for equal as for different ones.
bool SameProof(const Proof& a, const Proof& b);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_PROOF_H_
