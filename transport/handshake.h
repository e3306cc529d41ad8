#ifndef TENSORFERRY_TRANSPORT_HANDSHAKE_H_
#define TENSORFERRY_TRANSPORT_HANDSHAKE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "transport/data_address.h"
#include "transport/proof.h"
#include "transport/session_key.h"

namespace tensorferry {

// How two ends of a connection prove to each other that they know the key of
// one session. Bytes in, bytes out; no I/O.
//
//   client -> server  hello: session id, wire, connection number, nonce
//   server -> client  challenge: nonce, proof(server) | or why it refuses
//   client -> server  proof(client)
//
// A proof is HMAC-SHA256 over who proves and all that was said, so it is good
// for this connection only, if both nonces are random. The client knows that
// the server has the key before it sends more than a hello; the server says
// nothing but its proof before it knows the same of the client. An object takes
// less than 1 KiB and allocates nothing of the peer's choice.
class Handshake {
 public:
  virtual ~Handshake() = default;

  // What is to be sent now.
  absl::Span<const uint8_t> output() const {
    return {out_.data() + sent_, out_size_ - sent_};
  }
  void Sent(size_t bytes) { sent_ += bytes; }

  // How many bytes are to be received next; at most those are given to Receive.
  // UNAUTHENTICATED: no proof, or refused by the peer. DATA_LOSS: not this
  // protocol. RESOURCE_EXHAUSTED, FAILED_PRECONDITION: the peer refuses. After
  // an error there may be output, which tells the peer.
  size_t wanted() const { return wanted_ - received_; }
  absl::Status Receive(absl::Span<const uint8_t> bytes);

  // All was said and proved, and the output is sent.
  bool done() const { return wanted_ == 0 && output().empty(); }

 protected:
  static constexpr size_t kHelloHead = 48;  // the session id follows
  static constexpr size_t kHelloBytes = kHelloHead + SessionKey::kLongestId;
  static constexpr size_t kChallengeBytes = 72;

  explicit Handshake(size_t wanted) : wanted_(wanted) {}
  // All that was wanted is in `in_`.
  virtual absl::Status OnReceived() = 0;
  void WantMore(size_t bytes) { wanted_ += bytes; }  // behind what is there
  void WantNext(size_t bytes) { wanted_ = bytes, received_ = 0; }
  absl::string_view received() const {
    return {reinterpret_cast<const char*>(in_.data()), received_};
  }
  // In place of what was sent before.
  void Say(const uint8_t* data, size_t size);

  std::array<uint8_t, kHelloBytes> in_, out_;

 private:
  size_t wanted_;
  size_t received_ = 0;
  size_t out_size_ = 0;
  size_t sent_ = 0;
};

class ClientHandshake final : public Handshake {
 public:
  // `number`: see ServerHandshake::number.
  ClientHandshake(SessionKey session, Wire wire, uint64_t number,
                  const Nonce& nonce);

 private:
  absl::Status OnReceived() override;

  const SessionKey session_;
  size_t hello_bytes_;
};

// Why a server turns a client away, before either has proved anything.
enum class Refusal : uint8_t {
  kNone = 0,
  kVersion = 1,      // of this handshake
  kSession = 2,      // unknown, or no longer expected
  kWire = 3,         // not over this wire
  kConnections = 4,  // the session has as many as it may
};

class ServerHandshake final : public Handshake {
 public:
  // The key of a session, or why the client is to go.
  using FindKey = std::function<std::variant<std::string, Refusal>(
      const std::string& session_id)>;

  ServerHandshake(Wire wire, FindKey find_key, const Nonce& nonce);

  const std::string& session_id() const { return session_.session_id; }
  // Counted by the side that dials; each is good for one connection of a
  // session. Once done().
  uint64_t number() const { return number_; }

 private:
  enum class Step { kHelloHead, kHelloId, kProof };

  absl::Status OnReceived() override;
  absl::Status OnHelloHead();
  absl::Status OnHello();
  absl::Status OnProof();
  absl::Status Refuse(Refusal refusal);

  const Wire wire_;
  const FindKey find_key_;
  const Nonce nonce_;
  Step step_ = Step::kHelloHead;
  SessionKey session_;
  uint64_t number_ = 0;
  Proof expected_{};  // of the client
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_HANDSHAKE_H_
