#ifndef TENSORFERRY_CHANNEL_CHANNEL_SESSION_H_
#define TENSORFERRY_CHANNEL_CHANNEL_SESSION_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "channel/local_channel.h"
#include "channel/mapped_arenas.h"

namespace tensorferry {

class BufferExchange;

// What the channels of one context share. Any thread.
class ChannelSession {
 public:
  explicit ChannelSession(LocalChannelOptions options);

  const LocalChannelOptions& options() const { return options_; }
  // What to tell peers of this process's memory; empty: it can be read.
  const std::string& why_unreadable() const { return why_unreadable_; }

  // On the loop. Why the system did not let this process go on to read its
  // peer's memory; OK: that has not happened.
  const absl::Status& refused() const { return refused_; }
  void Refuse(absl::Status why) { refused_ = std::move(why); }

  const std::shared_ptr<MappedArenas>& mapped_arenas() const {
    return mapped_arenas_;
  }

  // Keeps `exchange` alive until Leave. Returns whether the session is open; if
  // not, the exchange has to be closed.
  bool Enter(std::shared_ptr<BufferExchange> exchange);
  void Leave(BufferExchange* exchange);

  void Close();
  // Closes and waits until all have left. Not on the loop.
  void Join();

 private:
  const LocalChannelOptions options_;
  const std::string why_unreadable_;
  absl::Status refused_;
  // Outlives the session where it is being mapped.
  const std::shared_ptr<MappedArenas> mapped_arenas_;
  absl::Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_map<BufferExchange*, std::shared_ptr<BufferExchange>>
      exchanges_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_CHANNEL_SESSION_H_
