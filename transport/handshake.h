#ifndef TENSORFERRY_TRANSPORT_HANDSHAKE_H_
#define TENSORFERRY_TRANSPORT_HANDSHAKE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
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
//   client -> server  hello: session id, wire, connection number, nonce;
//                     proof(client); what may go ahead
//   server -> client  answer: proof(server) | or why it refuses
//
// A proof is HMAC-SHA256 over who proves and the hello. The server's is good
// for this connection only since the nonce is random, and the client's since a
// number is taken once and a key is one session's: there is no challenge that
// the client would have to wait for. So the server's end is ready after one way
// and the client's after two, on each of the three connections of tensorpipe's
// pipe; with a challenge it would be three. (Version 1 had one.)
//
// The server proves nothing to whoever has no key. The client sends nothing but
// what may go ahead before it knows that the server has it. A server's object
// takes less than 1 KiB, and allocates nothing of the peer's choice.
class Handshake {
 public:
  virtual ~Handshake() = default;

  // What is to be sent now.
  absl::Span<const uint8_t> output() const {
    return {reinterpret_cast<const uint8_t*>(out_.data()) + sent_,
            out_.size() - sent_};
  }
  void Sent(size_t bytes) { sent_ += bytes; }

  // How many bytes are to be received next; at most those are given to Receive.
  // UNAUTHENTICATED: no proof, or refused by the peer. DATA_LOSS: not this
  // protocol. RESOURCE_EXHAUSTED, FAILED_PRECONDITION: the peer refuses. After
  // an error there may be output, which tells the peer.
  size_t wanted() const { return wanted_ - received_; }
  absl::Status Receive(absl::Span<const uint8_t> bytes);

  // The peer has proved that it knows the key.
  bool proved() const { return wanted_ == 0; }
  // And all is sent.
  bool done() const { return proved() && output().empty(); }

 protected:
  static constexpr size_t kHelloHead = 48;  // the session id follows
  static constexpr size_t kLongestHello = kHelloHead + SessionKey::kLongestId;
  static constexpr size_t kAnswerBytes = 40;

  explicit Handshake(size_t wanted) : wanted_(wanted) {}
  // All that was wanted is in `in_`.
  virtual absl::Status OnReceived() = 0;
  void WantMore(size_t bytes) { wanted_ += bytes; }  // behind what is there
  void WantNoMore() { wanted_ = received_ = 0; }
  absl::string_view received() const {
    return {reinterpret_cast<const char*>(in_.data()), received_};
  }
  void Say(std::string bytes) { out_ = std::move(bytes); }

  std::array<uint8_t, kLongestHello + sizeof(Proof)> in_;

 private:
  size_t wanted_;
  size_t received_ = 0;
  std::string out_;
  size_t sent_ = 0;
};

class ClientHandshake final : public Handshake {
 public:
  // `number`: of the connections of a session, each has its own, of this side's
  // choice. `ahead` follows the proof, for a server that may turn out to be
  // none.
  ClientHandshake(const SessionKey& session, Wire wire, uint64_t number,
                  const Nonce& nonce, absl::string_view ahead = {});

 private:
  absl::Status OnReceived() override;

  Proof expected_;  // of the server
};

// Why a server turns a client away.
enum class Refusal : uint8_t {
  kNone = 0,
  kVersion = 1,      // of this handshake
  kSession = 2,      // unknown, or no longer expected
  kWire = 3,         // not over this wire
  kConnections = 4,  // the session has as many as it may
  kKey = 5,          // it did not prove that it knows the key
  kNumber = 6,       // that connection has been there already
};

class ServerHandshake final : public Handshake {
 public:
  // The key of a session, or why the client is to go.
  using FindKey = std::function<std::variant<std::string, Refusal>(
      const std::string& session_id)>;

  // Takes the number of a connection that has proved the key, or says why the
  // client is to go: it was taken before, or the session has ended.
  using TakeNumber =
      std::function<Refusal(const std::string& session_id, uint64_t number)>;

  ServerHandshake(Wire wire, FindKey find_key, TakeNumber take_number);

 private:
  enum class Step { kHelloHead, kHelloId, kProof };

  absl::Status OnReceived() override;
  absl::Status OnHelloHead();
  absl::Status OnHelloId();
  absl::Status OnProof();
  absl::Status Refuse(Refusal refusal);

  const Wire wire_;
  const FindKey find_key_;
  const TakeNumber take_number_;
  Step step_ = Step::kHelloHead;
  SessionKey session_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_HANDSHAKE_H_
