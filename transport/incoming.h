#ifndef TENSORFERRY_TRANSPORT_INCOMING_H_
#define TENSORFERRY_TRANSPORT_INCOMING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/peer_process.h"
#include "transport/byte_stream.h"
#include "transport/frame.h"
#include "transport/handshake.h"
#include "transport/poll_loop.h"

namespace tensorferry {

// A connection that came in and has yet to prove a key. All on the loop.
class Incoming final : public PollLoop::Watcher,
                       public std::enable_shared_from_this<Incoming> {
 public:
  // Of one packet that says which connection of which pipe this is.
  static constexpr uint64_t kLongestFirstFrame = 4 << 10;

  struct Origin {
    bool over_unix = false;
    std::string host;  // of TCP
    std::optional<PeerProcess> peer;
  };

  // Outlives it.
  class Door {
   public:
    virtual ~Door() = default;
    // What the connection speaks, by its first byte. Null, with `fd` left: goes
    // away.
    virtual std::unique_ptr<ByteStream> StreamFor(Incoming& incoming, Wire wire,
                                                  UniqueFd& fd) = 0;
    virtual std::variant<std::string, Refusal> FindKey(
        Incoming& incoming, const std::string& session_id, Wire wire) = 0;
    virtual Refusal TakeNumber(const std::string& session_id,
                               uint64_t number) = 0;
    virtual void OnProved(Incoming& incoming) = 0;
    virtual void OnFirstFrame(Incoming& incoming) = 0;
    virtual void OnRefused(Incoming& incoming, absl::Status why) = 0;
  };

  Incoming(PollLoop* loop, Door* door, UniqueFd fd, Origin origin);

  void Start(absl::Duration timeout);
  // Lets go of the socket; nothing is called any more.
  void Stop();

  const Origin& origin() const { return origin_; }
  // Until when it need not make room for others. Who says nothing goes first;
  // who knows a session stays, and counts as one of that session's.
  absl::Time safe_until() const;
  bool knows_session() const { return !session_id_.empty(); }
  const std::string& session_id() const { return session_id_; }
  // It has named a session that is expected.
  void OnSessionNamed(std::string session_id) {
    session_id_ = std::move(session_id);
  }

  // After OnFirstFrame.
  std::unique_ptr<ByteStream> TakeStream() { return std::move(stream_); }
  std::vector<uint8_t> TakeFirstFrame() { return std::move(first_frame_); }

 private:
  enum class Step { kFirstByte, kPrepare, kHandshake, kHeader, kBody };

  void OnReady(uint32_t events) override;
  absl::StatusOr<bool> Take();  // the step; whether it is through
  absl::StatusOr<bool> FirstByte();
  absl::Status StartFrame();

  PollLoop* const loop_;
  Door* const door_;
  const Origin origin_;
  const absl::Time since_;
  UniqueFd fd_;  // until it is clear what is spoken
  PollLoop::WatchId watch_ = 0;
  PollLoop::TimerId deadline_ = 0;

  Step step_ = Step::kFirstByte;
  Wire wire_ = Wire::kUnix;
  std::string session_id_;  // empty: a stranger
  std::unique_ptr<ByteStream> stream_;
  std::optional<ServerHandshake> handshake_;
  std::vector<uint8_t> first_frame_;
  size_t got_ = 0;  // of it
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_INCOMING_H_
