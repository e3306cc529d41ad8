// What a stranger says to either side of the handshake: it takes no more than
// it wants, keeps within its buffers, and believes nothing. The first byte
// chooses the side and the wire, the second the size of the pieces.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "transport/handshake.h"

namespace tensorferry {
namespace {

void Feed(Handshake& handshake, const uint8_t* data, size_t size,
          size_t piece) {
  handshake.Sent(handshake.output().size());
  while (size > 0 && handshake.wanted() > 0) {
    const size_t bytes = std::min({handshake.wanted(), size, piece});
    const absl::Status status = handshake.Receive({data, bytes});
    handshake.Sent(handshake.output().size());
    if (!status.ok()) return;
    data += bytes;
    size -= bytes;
  }
  // Nobody can guess the proof of a key.
  if (handshake.done()) std::abort();
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tensorferry;
  static_assert(sizeof(ServerHandshake) < 1024);
  static_assert(sizeof(ClientHandshake) < 1024);
  if (size < 2) return 0;
  const auto wire = static_cast<Wire>((data[0] >> 1) % 3);
  const size_t piece = data[1] == 0 ? 256 : data[1];
  const Nonce nonce = {1, 2, 3};
  const std::string key = "sixteen bytes...";
  if (data[0] % 2 == 0) {
    ServerHandshake server(
        wire,
        [&](const std::string& session_id)
            -> std::variant<std::string, Refusal> {
          if (session_id.empty() ||
              session_id.size() > SessionKey::kLongestId) {
            std::abort();
          }
          if (session_id == "unknown") return Refusal::kSession;
          return key;
        },
        // Nobody can guess the proof of a key.
        [](const std::string&, uint64_t) -> Refusal { std::abort(); });
    Feed(server, data + 2, size - 2, piece);
  } else {
    ClientHandshake client({.session_id = "session", .key = key}, wire, 7,
                           nonce);
    Feed(client, data + 2, size - 2, piece);
  }
  return 0;
}
