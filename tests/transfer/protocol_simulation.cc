#include "tests/transfer/protocol_simulation.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transfer/receive_machine.h"
#include "transfer/send_machine.h"

namespace tensorferry {
namespace {

// What the bytes of a source are once its user has them back.
constexpr uint64_t kReused = ~uint64_t{0};

struct WireFrame {
  enum class Kind { kHeader, kTrailer, kCancel, kGrant, kRefuse, kAck };
  Kind kind;
  OperationId operation;
  std::vector<BodyAttempt> again;
  absl::Status status;
};

struct WireBody {
  OperationId operation;
  uint32_t body, attempt;
  bool captured = false;  // the transport has a copy of the bytes
  uint64_t content = 0;
};

struct PendingRead {
  uint64_t wire_index;
  OperationId operation;
  uint32_t body;
  BodyPlace place;
};

struct SimLane {
  uint32_t generation = 1;
  bool copies_late =
      false;  // like the local channel: bytes move when the receiver reads
  bool sender_closed = false, receiver_closed = false;
  bool sender_ended = false, receiver_ended = false;
  std::vector<WireBody> wire;  // of this generation
  size_t writes_done = 0;      // of the wire, in order
  size_t described = 0;        // descriptions that the receiver has seen
  bool description_waits = false;
  bool stuck = false;  // nothing moves until it is closed
  std::deque<PendingRead> reads;
};

struct Message {
  SendMachine::Request request;
  uint64_t manifest_nbytes = 0;
  bool submitted = false, finished = false;
  bool last_word = false;  // the receiver's
  int deliveries = 0;
  int writes = 0;
  bool digesting = false;
  std::set<uint32_t> copying, copied;          // bodies
  std::map<uint32_t, uint64_t> region, stage;  // body -> content
  uint32_t digesting_until = 0;                // bodies; 0: none
  std::vector<uint64_t> digested;              // by body: its content then
  bool memory_gone = false;                    // delivered or dropped
};

struct User {
  bool finished = false;
  OperationId operation = 0;
};

}  // namespace

class ProtocolSimulation::World {
 public:
  World(uint64_t seed, bool alone, bool calm) : random_(seed), alone_(alone) {
    limits_.operations_in_flight = 1 + Draw(4);
    limits_.bytes_in_flight = 50 + Draw(400);
    limits_.operations_queued = 2 + Draw(10);
    limits_.headers_waiting = Draw(4);
    limits_.manifest_bytes = 30 + Draw(60);
    limits_.eager_bytes = Draw(3) == 0 ? 0 : Draw(120);
    body_lanes_ = 1 + static_cast<int>(Draw(3));
    calm_ = alone_ ? Draw(3) == 0 : calm;
    lossy_ = Draw(3) != 0;
    link_may_end_ = alone_ && !calm_ && Draw(4) == 0;
    messages_to_send_ = (alone_ ? 1 : 0) + static_cast<int>(Draw(8));
    if (calm_) {
      limits_.operations_queued = 100;
      limits_.headers_waiting = 100;
      limits_.manifest_bytes = 1000;
    }
    Start();
  }

  SimulationReport Run() {
    Loop();
    CheckEnd();
    return report_;
  }

  bool Step(bool sender_runs, bool receiver_runs, bool connected) {
    sender_runs_ = sender_runs;
    receiver_runs_ = receiver_runs;
    connected_ = connected;
    events_.clear();
    if (!up_ && !sender_ended_ && sender_runs_) {
      events_.push_back([this] {
        up_ = true;
        Send([&](auto& out) { sender_->OnUp(out); });
      });
    }
    AddUserEvents(events_);
    AddNetworkEvents(events_);
    AddDriverEvents(events_);
    if (events_.empty()) return false;
    events_[Draw(events_.size())]();
    // Trouble comes on top, and rarely: it is never needed to go on.
    if (Draw(12) == 0) Trouble();
    return true;
  }

  absl::Time next_deadline() const {
    return std::min(sender_->next_deadline(), receiver_->next_deadline());
  }

  void AdvanceTo(absl::Time now, bool sender_runs, bool receiver_runs) {
    sender_runs_ = sender_runs;
    receiver_runs_ = receiver_runs;
    now_ = std::max(now_, now);
    Tick();
  }

  void StopSending() { messages_to_send_ = static_cast<int>(messages_.size()); }

  void End(Side side, absl::Status why) {
    calm_ &= why.ok();
    if (side == Side::kSender) {
      if (std::exchange(sender_ended_, true)) return;
      StopSending();
      to_sender_.clear();
      for (SimLane& lane : lanes_) lane.sender_closed = true;
      Send([&](auto& out) { sender_->End(Reason(why), out); });
    } else {
      if (std::exchange(receiver_ended_, true)) return;
      to_receiver_.clear();
      for (SimLane& lane : lanes_) lane.receiver_closed = true;
      Receive([&](auto& out) { receiver_->End(Reason(why), out); });
    }
  }

  bool idle(Side side) const {
    if (side == Side::kReceiver) return receiver_->idle();
    return sender_->idle();
  }

  bool ended(Side side) const {
    const bool receives = side == Side::kReceiver;
    if (!(receives ? receiver_ended_ : sender_ended_) || !idle(side)) {
      return false;
    }
    if (receives && (receiver_->waiting() || !deliveries_.empty())) {
      return false;
    }
    return std::all_of(
        lanes_.begin() + 1, lanes_.end(), [receives](const SimLane& lane) {
          return receives ? lane.receiver_ended : lane.sender_ended;
        });
  }

  void CheckSide(Side side) {
    if (side == Side::kSender) {
      for (auto& [id, message] : messages_) {
        Expect(message.finished == message.submitted,
               absl::StrCat("Send ", id, " never ended"));
      }
      Expect(sender_->eager_bytes() == 0,
             "window not given back by the sender");
    } else {
      for (auto& [id, user] : users_) {
        Expect(user.finished, absl::StrCat("Receive ", id, " never ended"));
      }
      Expect(receiver_->staged_bytes() == 0,
             "window not given back by the receiver");
    }
  }

  const SimulationReport& report() const { return report_; }

 private:
  using SendActions = SendMachine::Actions;
  using ReceiveActions = ReceiveMachine::Actions;

  uint64_t Draw(uint64_t below) { return random_() % below; }
  bool failed() const { return !report_.failure.empty(); }
  void Expect(bool holds, const std::string& what) {
    if (!holds && !failed()) report_.failure = what;
  }

  static absl::Status Reason(const absl::Status& why) {
    return why.ok() ? absl::CancelledError("closed") : why;
  }

  // ---- the world

  void Start() {
    SendMachine::Settings send;
    send.limits = limits_;
    send.body_lanes = body_lanes_;
    send.digests = Draw(2) == 0;
    send.writes_per_lane = 1 + static_cast<int>(Draw(3));
    sender_.emplace(send);
    ReceiveMachine::Settings receive;
    receive.limits = limits_;
    receive.body_lanes = body_lanes_;
    receive.digests = send.digests;
    receiver_.emplace(receive);
    lanes_.resize(body_lanes_ + 1);
    for (int lane = 1; lane <= body_lanes_; ++lane) {
      lanes_[lane].copies_late = Draw(2) == 0;
      Send([&](auto& out) { sender_->OnLaneUp(lane, 1, out); });
    }
  }

  void Loop() {
    for (int step = 0; step < 20000 && !failed(); ++step) {
      if (Step(true, true, true)) continue;
      if (AllEnded() || !TimePasses()) return;
    }
    Expect(false, "no end in sight");
  }

  bool AllEnded() {
    return static_cast<int>(messages_.size()) == messages_to_send_ &&
           sender_->idle() && receiver_->idle() && !receiver_->waiting();
  }

  bool TimePasses() {
    Expect(!calm_, "nothing moves, and only a deadline would help");
    absl::Time next =
        std::min(sender_->next_deadline(), receiver_->next_deadline());
    Expect(next != absl::InfiniteFuture(), "nothing will ever happen again");
    if (failed()) return false;
    now_ = std::max(now_, next);
    Tick();
    return true;
  }

  void Tick() {
    if (sender_runs_) Send([&](auto& out) { sender_->OnTime(now_, out); });
    if (receiver_runs_) {
      Receive([&](auto& out) { receiver_->OnTime(now_, out); });
    }
  }

  void Trouble() {
    if (lossy_ && Draw(2) == 0) {
      int lane = 1 + static_cast<int>(Draw(body_lanes_));
      (Draw(2) == 0 ? lanes_[lane].sender_closed
                    : lanes_[lane].receiver_closed) = true;
    }
    if (calm_) return;
    switch (Draw(6)) {
      case 0:
        if (!messages_.empty()) {
          OperationId id = 1 + Draw(messages_.size());
          Send([&](auto& out) {
            sender_->Cancel(id, absl::CancelledError("user"), out);
          });
        }
        break;
      case 1:
        if (!users_.empty()) {
          ReceiveId id = 1 + Draw(users_.size());
          Receive([&](auto& out) {
            receiver_->Cancel(id, absl::CancelledError("user"), out);
          });
        }
        break;
      case 2:
        if (!alone_) break;  // time is the user's
        now_ += absl::Milliseconds(Draw(400));
        Tick();
        break;
      case 3:
        if (link_may_end_ && Draw(10) == 0) EndLink();
        break;
      case 4:
        lanes_[1 + Draw(body_lanes_)].stuck = Draw(3) == 0;
        break;
      default:
        break;
    }
  }

  void EndLink() {
    const int to_send = messages_to_send_;
    End(Side::kSender, absl::UnavailableError("link"));
    End(Side::kReceiver, absl::UnavailableError("link"));
    messages_to_send_ = to_send;
  }

  // ---- users

  void AddUserEvents(std::vector<std::function<void()>>& events) {
    if (sender_runs_ &&
        static_cast<int>(messages_.size()) < messages_to_send_) {
      events.push_back([this] { Submit(); });
    }
    size_t wanted = calm_ ? messages_to_send_ : messages_to_send_ + 1;
    const bool takes = receiver_runs_ && (alone_ || !receiver_ended_);
    if (takes && users_.size() < wanted)
      events.push_back([this] { PostReceive(); });
  }

  void Submit() {
    OperationId id = messages_.size() + 1;
    Message& message = messages_[id];
    message.request.is_inline = Draw(4) == 0;
    message.request.may_be_eager = Draw(4) != 0;
    message.request.digest_last = Draw(3) == 0;
    const bool copies = !message.request.may_be_eager && Draw(2) == 0;
    message.manifest_nbytes = Draw(30);
    if (message.request.is_inline) {
      message.request.nbytes = Draw(80);
    } else {
      int bodies = 1 + static_cast<int>(Draw(5));
      for (int i = 0; i < bodies; ++i) {
        message.request.body_nbytes.push_back(1 + Draw(40));
        message.request.copied_on.push_back(copies ? Draw(3) : 0);
        message.request.nbytes += message.request.body_nbytes.back();
      }
    }
    if (!calm_) {
      message.request.deadline = now_ + absl::Milliseconds(100 + Draw(3000));
    }
    message.submitted = true;
    Send([&](auto& out) { sender_->Submit(id, message.request, out); });
  }

  void PostReceive() {
    ReceiveId id = users_.size() + 1;
    users_[id] = {};
    absl::Time deadline = calm_ ? absl::InfiniteFuture()
                                : now_ + absl::Milliseconds(100 + Draw(3000));
    Receive([&](auto& out) { receiver_->Receive(id, {}, deadline, out); });
  }

  // ---- network

  void AddNetworkEvents(std::vector<std::function<void()>>& events) {
    if (receiver_runs_ && connected_ && !to_receiver_.empty()) {
      events.push_back([this] { FrameToReceiver(); });
    }
    if (sender_runs_ && connected_ && !to_sender_.empty()) {
      events.push_back([this] { FrameToSender(); });
    }
    for (int lane = 1; lane <= body_lanes_; ++lane) {
      AddLaneEvents(lane, events);
    }
  }

  void AddLaneEvents(int index, std::vector<std::function<void()>>& events) {
    SimLane& lane = lanes_[index];
    if (sender_runs_ && !lane.sender_ended) {
      if (lane.sender_closed) {
        events.push_back([this, index] { EndSenderSide(index); });
      } else if (!connected_) {
      } else if (lane.receiver_ended) {
        events.push_back([&lane] { lane.sender_closed = true; });
      } else if (!lane.stuck && WriteMayComplete(lane)) {
        events.push_back([this, index] { CompleteWrite(index, true); });
      }
    }
    if (receiver_runs_ && !lane.receiver_ended) {
      if (lane.receiver_closed) {
        events.push_back([this, index] { EndReceiverSide(index); });
      } else if (connected_) {
        if (lane.sender_ended) {
          events.push_back([&lane] { lane.receiver_closed = true; });
        }
        if (!lane.description_waits && lane.described < lane.wire.size()) {
          events.push_back([this, index] { Describe(index); });
        }
        if (!lane.reads.empty() && !lane.stuck) {
          events.push_back([this, index] { CompleteRead(index, true); });
        }
      }
    }
    if (lane.sender_ended && lane.receiver_ended && !link_ended() &&
        sender_runs_ && receiver_runs_ && connected_) {
      events.push_back([this, index] { Reopen(index); });
    }
  }

  bool WriteMayComplete(const SimLane& lane) {
    if (lane.writes_done >= lane.wire.size()) return false;
    return !lane.copies_late || lane.wire[lane.writes_done].captured;
  }

  void Capture(WireBody& body) {
    if (body.captured) return;
    body.captured = true;
    body.content =
        messages_[body.operation].finished ? kReused : body.operation;
  }

  void CompleteWrite(int index, bool ok) {
    SimLane& lane = lanes_[index];
    WireBody& body = lane.wire[lane.writes_done++];
    if (ok) Capture(body);
    Message& message = messages_[body.operation];
    --message.writes;
    Expect(!message.finished, "the transport held a buffer after kFinish");
    OperationId id = body.operation;
    uint32_t part = body.body;
    Send([&](auto& out) { sender_->OnBodyWritten(index, id, part, ok, out); });
  }

  void EndSenderSide(int index) {
    SimLane& lane = lanes_[index];
    while (lane.writes_done < lane.wire.size()) CompleteWrite(index, false);
    lane.sender_ended = true;
    ++report_.lanes_ended;
    Send([&](auto& out) { sender_->OnLaneEnded(index, out); });
  }

  void Describe(int index) {
    SimLane& lane = lanes_[index];
    WireBody body = lane.wire[lane.described++];
    lane.description_waits = true;
    Receive([&](auto& out) {
      receiver_->OnBody(index, lane.generation, body.operation, body.body,
                        body.attempt, out);
    });
  }

  void CompleteRead(int index, bool ok) {
    SimLane& lane = lanes_[index];
    PendingRead read = lane.reads.front();
    lane.reads.pop_front();
    Message& message = messages_[read.operation];
    // Of a device whose memory cannot be filled.
    const bool fails =
        ok && !calm_ && read.place == BodyPlace::kRegion && Draw(40) == 0;
    ok = ok && !fails;
    if (ok) {
      WireBody& body = lane.wire[read.wire_index];
      Capture(body);
      if (read.place == BodyPlace::kRegion) {
        Expect(!message.memory_gone, "a region was written to after its end");
        message.region[read.body] = body.content;
      } else if (read.place == BodyPlace::kStage) {
        message.stage[read.body] = body.content;
      }
    }
    Receive([&](auto& out) {
      receiver_->OnBodyRead(index, read.operation, read.body, read.place, ok,
                            out);
    });
    if (!fails) return;
    Receive([&](auto& out) {
      receiver_->Fail(read.operation, absl::ResourceExhaustedError("no memory"),
                      out);
    });
  }

  void EndReceiverSide(int index) {
    SimLane& lane = lanes_[index];
    while (!lane.reads.empty()) CompleteRead(index, false);
    lane.receiver_ended = true;
    Receive([&](auto& out) { receiver_->OnLaneEnded(index, out); });
  }

  void Reopen(int index) {
    SimLane& lane = lanes_[index];
    uint32_t generation = lane.generation + 1;
    bool copies_late = lane.copies_late;
    lane = SimLane();
    lane.generation = generation;
    lane.copies_late = copies_late;
    Send([&](auto& out) { sender_->OnLaneUp(index, generation, out); });
  }

  void FrameToReceiver() {
    WireFrame frame = to_receiver_.front();
    to_receiver_.pop_front();
    Receive([&](auto& out) {
      switch (frame.kind) {
        case WireFrame::Kind::kHeader: {
          const Message& message = messages_[frame.operation];
          ReceiveMachine::Header header;
          header.is_inline = message.request.is_inline;
          header.may_be_eager = message.request.may_be_eager;
          header.nbytes = message.request.nbytes;
          header.manifest_nbytes = message.manifest_nbytes;
          header.body_nbytes = message.request.body_nbytes;
          if (!calm_ && Draw(30) == 0) {
            header.refusal = absl::InvalidArgumentError("bad manifest");
          }
          receiver_->OnHeader(frame.operation, header, out);
          break;
        }
        case WireFrame::Kind::kTrailer:
          receiver_->OnTrailer(frame.operation, frame.again, out);
          break;
        default:
          receiver_->OnCancel(frame.operation, frame.status, out);
      }
    });
  }

  void FrameToSender() {
    WireFrame frame = to_sender_.front();
    to_sender_.pop_front();
    Send([&](auto& out) {
      switch (frame.kind) {
        case WireFrame::Kind::kGrant:
          sender_->OnGrant(frame.operation, out);
          break;
        case WireFrame::Kind::kRefuse:
          sender_->OnRefuse(frame.operation, frame.status, out);
          break;
        default:
          sender_->OnAck(frame.operation, frame.status, out);
      }
    });
  }

  // ---- drivers

  // One of them, in any order: devices are not equally fast.
  void EndCopy() {
    const size_t which = Draw(copies_.size());
    const auto copy = copies_[which];
    copies_.erase(copies_.begin() + static_cast<ptrdiff_t>(which));
    Message& message = messages_[copy.first];
    message.copying.erase(copy.second);
    const bool ok = calm_ || Draw(20) != 0;
    if (ok) {
      message.copied.insert(copy.second);
    } else {
      Send([&](auto& out) {
        sender_->Cancel(copy.first, absl::ResourceExhaustedError(""), out);
      });
    }
    Send([&](auto& out) {
      sender_->OnBodyCopied(copy.first, copy.second, ok, out);
    });
  }

  void AddDriverEvents(std::vector<std::function<void()>>& events) {
    if (sender_runs_ && !copies_.empty()) {
      events.push_back([this] { EndCopy(); });
    }
    if (sender_runs_ && !digests_.empty()) {
      events.push_back([this] {
        OperationId id = *digests_.begin();
        digests_.erase(digests_.begin());
        messages_[id].digesting = false;
        Send([&](auto& out) { sender_->OnDigest(id, out); });
      });
    }
    if (receiver_runs_ && !allocations_.empty()) {
      events.push_back([this] {
        OperationId id = *allocations_.begin();
        allocations_.erase(allocations_.begin());
        absl::Status status;
        if (!calm_ && Draw(20) == 0) {
          status = absl::ResourceExhaustedError("no memory");
        }
        Receive([&](auto& out) { receiver_->OnAllocated(id, status, out); });
      });
    }
    if (receiver_runs_ && !arrived_digests_.empty()) {
      events.push_back([this] {
        OperationId id = *arrived_digests_.begin();
        arrived_digests_.erase(arrived_digests_.begin());
        Digested(messages_[id]);
        Receive([&](auto& out) { receiver_->OnDigested(id, out); });
      });
    }
    if (receiver_runs_ && !deliveries_.empty()) {
      events.push_back([this] {
        // Whole: clang 14 lets no lambda capture its parts.
        const auto delivery = deliveries_.front();
        deliveries_.pop_front();
        Receive([&](auto& out) {
          receiver_->OnDelivered(delivery.first, delivery.second, out);
        });
      });
    }
  }

  template <class Event>
  void Send(Event event) {
    SendActions actions;
    event(actions);
    for (SendAction& action : actions) Do(action);
    Expect(sender_->eager_bytes() <= limits_.eager_bytes,
           "the sender passed its window");
  }

  template <class Event>
  void Receive(Event event) {
    ReceiveActions actions;
    event(actions);
    for (ReceiveAction& action : actions) Do(action);
    Expect(receiver_->staged_bytes() <= limits_.eager_bytes,
           "the receiver passed its window");
  }

  void Do(SendAction& action) {
    Message& message = messages_[action.operation];
    switch (action.kind) {
      case SendAction::Kind::kHeader:
        PushFrame(WireFrame::Kind::kHeader, action);
        break;
      case SendAction::Kind::kTrailer:
        PushFrame(WireFrame::Kind::kTrailer, action);
        break;
      case SendAction::Kind::kCancelFrame:
        PushFrame(WireFrame::Kind::kCancel, action);
        break;
      case SendAction::Kind::kDigest:
        Expect(!message.finished, "digest of a buffer after kFinish");
        message.digesting = true;
        digests_.insert(action.operation);
        break;
      case SendAction::Kind::kCopyBody:
        Expect(!message.finished, "a copy of a buffer after kFinish");
        Expect(message.copying.insert(action.body).second, "two copies");
        copies_.push_back({action.operation, action.body});
        break;
      case SendAction::Kind::kWriteBody:
        WriteBody(action, message);
        break;
      case SendAction::Kind::kResetLane:
        if (lanes_[action.lane].generation == action.generation) {
          lanes_[action.lane].sender_closed = true;
        }
        break;
      case SendAction::Kind::kFinish:
        FinishSend(action, message);
        break;
      case SendAction::Kind::kEndLink:
        Expect(false,
               absl::StrCat("the sender complains about an honest peer: ",
                            action.status.ToString()));
    }
  }

  void PushFrame(WireFrame::Kind kind, const SendAction& action) {
    if (receiver_ended_ || sender_ended_) return;
    std::vector<BodyAttempt> again;
    if (kind == WireFrame::Kind::kTrailer) {
      again = sender_->AttemptsOf(action.operation);
    }
    to_receiver_.push_back({kind, action.operation, again, action.status});
  }

  void WriteBody(const SendAction& action, Message& message) {
    SimLane& lane = lanes_[action.lane];
    Expect(lane.generation == action.generation && !lane.sender_ended,
           "a write to a lane that has ended");
    Expect(!message.finished, "a write of a buffer after kFinish");
    if (message.request.copied_on[action.body] != 0) {
      Expect(message.copied.erase(action.body) == 1,
             "a write of what was not copied");
    }
    ++message.writes;
    lane.wire.push_back({action.operation, action.body, action.attempt});
  }

  void FinishSend(const SendAction& action, Message& message) {
    Expect(!message.finished, "second end of a Send");
    Expect(message.writes == 0, "end of a Send whose buffers are in use");
    Expect(message.copying.empty(), "end of a Send whose buffers are copied");
    Expect(!message.digesting, "end of a Send whose buffers are digested");
    message.finished = true;
    ++(action.status.ok() ? report_.sent_ok : report_.sent_failed);
    if (action.status.ok()) {
      Expect(message.deliveries == 1, "OK at the sender without a delivery");
    }
    Expect(!calm_ || action.status.ok(),
           absl::StrCat("failed though nothing was wrong: ",
                        action.status.ToString()));
  }

  void Do(ReceiveAction& action) {
    Message none;
    auto found = messages_.find(action.operation);
    Message& message = found == messages_.end() ? none : found->second;
    switch (action.kind) {
      case ReceiveAction::Kind::kAllocate:
        users_[action.receive].operation = action.operation;
        allocations_.insert(action.operation);
        break;
      case ReceiveAction::Kind::kGrant:
        PushReply(WireFrame::Kind::kGrant, action);
        break;
      case ReceiveAction::Kind::kRefuse:
        PushReply(WireFrame::Kind::kRefuse, action);
        break;
      case ReceiveAction::Kind::kAck:
        PushReply(WireFrame::Kind::kAck, action);
        break;
      case ReceiveAction::Kind::kRead:
        ReadBody(action);
        break;
      case ReceiveAction::Kind::kDigest:
        DigestArrived(action, message);
        break;
      case ReceiveAction::Kind::kDeliver:
        Deliver(action, message);
        break;
      case ReceiveAction::Kind::kFinishReceive:
        FinishReceive(action.receive, action.status);
        break;
      case ReceiveAction::Kind::kDrop:
        Expect(message.digesting_until == 0, "memory dropped while digested");
        message.memory_gone = true;
        break;
      case ReceiveAction::Kind::kResetLane:
        if (lanes_[action.lane].generation == action.generation) {
          lanes_[action.lane].receiver_closed = true;
        }
        break;
      case ReceiveAction::Kind::kEndLink:
        Expect(false,
               absl::StrCat("the receiver complains about an honest peer: ",
                            action.status.ToString()));
    }
  }

  void PushReply(WireFrame::Kind kind, const ReceiveAction& action) {
    Expect(!absl::StrContains(action.status.message(), "bytes_in_flight"),
           "the receiver counts more bytes in flight than the sender");
    if (kind != WireFrame::Kind::kGrant) {
      messages_[action.operation].last_word = true;
    }
    if (sender_ended_ || receiver_ended_) return;
    to_sender_.push_back({kind, action.operation, {}, action.status});
  }

  void ReadBody(const ReceiveAction& action) {
    SimLane& lane = lanes_[action.lane];
    Expect(lane.generation == action.generation && !lane.receiver_ended,
           "a read from a lane that has ended");
    Expect(lane.description_waits, "a read of nothing");
    lane.description_waits = false;
    if (action.place == BodyPlace::kRegion) {
      Expect(action.body >= messages_[action.operation].digesting_until,
             "a read into what is digested now");
    }
    if (action.place != BodyPlace::kRegion) {
      Expect(!HoldsStray(lane), "more memory on a lane that holds a stray");
    }
    lane.reads.push_back(
        {lane.described - 1, action.operation, action.body, action.place});
    ++(action.place == BodyPlace::kSink    ? report_.dropped
       : action.place == BodyPlace::kStage ? report_.aside
                                           : report_.again);
  }

  // Whether the transport reads into memory that no open operation answers for.
  bool HoldsStray(const SimLane& lane) {
    return std::any_of(lane.reads.begin(), lane.reads.end(),
                       [&](const PendingRead& read) {
                         return read.place == BodyPlace::kSink ||
                                (read.place == BodyPlace::kStage &&
                                 messages_[read.operation].last_word);
                       });
  }

  int RegionReads(OperationId id) {
    int reads = 0;
    for (const SimLane& lane : lanes_) {
      for (const PendingRead& read : lane.reads) {
        reads += read.operation == id && read.place == BodyPlace::kRegion;
      }
    }
    return reads;
  }

  uint64_t ContentOf(Message& message, uint32_t body) {
    const bool region = message.region.count(body) != 0;
    Expect(region || message.stage.count(body) != 0, "use of no body");
    return region ? message.region[body] : message.stage[body];
  }

  void DigestArrived(const ReceiveAction& action, Message& message) {
    Expect(message.digesting_until == 0, "two digests of a message at once");
    Expect(action.digested < action.body, "digest of nothing");
    Expect(action.digested == 0 || action.digested == message.digested.size(),
           "digest that does not go on where the last one ended");
    message.digested.resize(action.digested);
    message.digesting_until = action.body;
    arrived_digests_.insert(action.operation);
  }

  void Digested(Message& message) {
    while (message.digested.size() < message.digesting_until) {
      const auto body = static_cast<uint32_t>(message.digested.size());
      message.digested.push_back(ContentOf(message, body));
    }
    message.digesting_until = 0;
    ++report_.digests;
  }

  void Deliver(const ReceiveAction& action, Message& message) {
    Expect(message.digesting_until == 0, "delivery of what is digested now");
    message.digested.resize(
        std::min<size_t>(message.digested.size(), action.digested));
    Expect(message.digested.size() == action.digested,
           "delivery with digests that were not computed");
    Expect(message.deliveries == 0, "second delivery of a message");
    Expect(RegionReads(action.operation) == 0, "delivery of memory in use");
    for (uint32_t i = 0; i < message.request.body_nbytes.size(); ++i) {
      Expect(ContentOf(message, i) == action.operation,
             "delivery of other bytes");
      Expect(i >= action.digested || message.digested[i] == action.operation,
             "digest of other bytes");
    }
    ++message.deliveries;
    message.memory_gone = true;
    User& user = users_[action.receive];
    Expect(!user.finished, "second end of a Receive");
    user.finished = true;
    ++report_.received_ok;
    deliveries_.push_back({action.operation, absl::OkStatus()});
  }

  void FinishReceive(ReceiveId id, const absl::Status& status) {
    User& user = users_[id];
    Expect(!status.ok(), "end of a Receive without a reason");
    Expect(!user.finished, "second end of a Receive");
    user.finished = true;
    if (user.operation == 0) return;
    Expect(RegionReads(user.operation) == 0,
           "end of a Receive whose memory is in use");
    Expect(messages_[user.operation].digesting_until == 0,
           "end of a Receive whose memory is digested");
    messages_[user.operation].memory_gone = true;
  }

  void CheckEnd() {
    if (failed()) return;
    CheckSide(Side::kSender);
    CheckSide(Side::kReceiver);
  }

  bool link_ended() const { return sender_ended_ || receiver_ended_; }

  std::mt19937_64 random_;
  Limits limits_;
  int body_lanes_ = 1;
  bool calm_ = false, lossy_ = false;
  const bool alone_;
  bool link_may_end_ = false, up_ = false;
  bool sender_ended_ = false, receiver_ended_ = false;
  bool sender_runs_ = true, receiver_runs_ = true, connected_ = true;
  std::vector<std::function<void()>> events_;
  int messages_to_send_ = 1;
  absl::Time now_ = absl::UnixEpoch();

  std::optional<SendMachine> sender_;
  std::optional<ReceiveMachine> receiver_;
  std::vector<SimLane> lanes_;
  std::deque<WireFrame> to_receiver_, to_sender_;
  std::map<OperationId, Message> messages_;
  std::map<ReceiveId, User> users_;
  std::set<OperationId> digests_, allocations_, arrived_digests_;
  std::vector<std::pair<OperationId, uint32_t>> copies_;  // under way
  std::deque<std::pair<OperationId, absl::Status>> deliveries_;
  SimulationReport report_;
};

ProtocolSimulation::ProtocolSimulation(uint64_t seed, bool calm)
    : world_(std::make_unique<World>(seed, false, calm)) {}
ProtocolSimulation::~ProtocolSimulation() = default;

bool ProtocolSimulation::Step(bool sender_runs, bool receiver_runs,
                              bool connected) {
  return world_->Step(sender_runs, receiver_runs, connected);
}
absl::Time ProtocolSimulation::next_deadline() const {
  return world_->next_deadline();
}
void ProtocolSimulation::AdvanceTo(absl::Time now, bool sender_runs,
                                   bool receiver_runs) {
  world_->AdvanceTo(now, sender_runs, receiver_runs);
}
void ProtocolSimulation::StopSending() { world_->StopSending(); }
void ProtocolSimulation::End(Side side, absl::Status why) {
  world_->End(side, std::move(why));
}
bool ProtocolSimulation::idle(Side side) const { return world_->idle(side); }
bool ProtocolSimulation::ended(Side side) const { return world_->ended(side); }
void ProtocolSimulation::CheckSide(Side side) { world_->CheckSide(side); }
const SimulationReport& ProtocolSimulation::report() const {
  return world_->report();
}

SimulationReport ProtocolSimulation::Run(uint64_t seed) {
  return World(seed, true, false).Run();
}

}  // namespace tensorferry
