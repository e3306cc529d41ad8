// absl's Mutex, CondVar, Notification, BlockingCounter and the count of a
// Status's owners as ThreadSanitizer can see them.
//
// The installed absl is not built with ThreadSanitizer, which therefore knows
// nothing of its locks and would call everything that they guard a race. These
// definitions take the place of the library's, in all of the process: each
// mutex's word points to a pthread mutex, each CondVar's to its like.

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "absl/status/internal/status_internal.h"
#include "absl/status/status.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

// gRPC and libtorch have atomics of their own that nothing here can explain.
// Only calls made by their own code match, not those of our callbacks.
extern "C" const char* __tsan_default_suppressions() {
  return "race:libgrpc\nrace:libgpr\nrace:libabsl\nrace:libprotobuf\n"
         "race:libtorch_cpu.so\nrace:libc10.so\n";
}

namespace absl {
ABSL_NAMESPACE_BEGIN
namespace {

struct Lock {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t released = PTHREAD_COND_INITIALIZER;
  int waiting_for_condition = 0;
};

struct Signal {
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
};

// Made on first use: absl's constructors are inline and only clear the word.
template <typename T>
T& At(std::atomic<intptr_t>& word) {
  intptr_t value = word.load(std::memory_order_acquire);
  if (value == 0) {
    T* made = new T;
    if (word.compare_exchange_strong(value, reinterpret_cast<intptr_t>(made))) {
      return *made;
    }
    delete made;
  }
  return *reinterpret_cast<T*>(value);
}

// Whoever waits for a condition has to look again when the lock is released.
void BeforeRelease(Lock& lock) {
  if (lock.waiting_for_condition > 0) pthread_cond_broadcast(&lock.released);
}

// Returns false when the deadline has passed.
bool WaitUntil(pthread_cond_t& cond, Lock& lock, Time deadline) {
  if (deadline == InfiniteFuture()) {
    return pthread_cond_wait(&cond, &lock.mutex) == 0;
  }
  const timespec until = ToTimespec(deadline);
  return pthread_cond_timedwait(&cond, &lock.mutex, &until) == 0;
}

bool Await(Lock& lock, const Condition& condition, Time deadline) {
  BeforeRelease(lock);
  ++lock.waiting_for_condition;
  bool in_time = true;
  bool holds = condition.Eval();
  while (!holds && in_time) {
    in_time = WaitUntil(lock.released, lock, deadline);
    holds = condition.Eval();
  }
  --lock.waiting_for_condition;
  return holds;
}

}  // namespace

Mutex::~Mutex() { delete reinterpret_cast<absl::Lock*>(mu_.load()); }

void Mutex::Lock() { pthread_mutex_lock(&At<absl::Lock>(mu_).mutex); }

void Mutex::Unlock() {
  auto& lock = At<absl::Lock>(mu_);
  BeforeRelease(lock);
  pthread_mutex_unlock(&lock.mutex);
}

bool Mutex::TryLock() {
  return pthread_mutex_trylock(&At<absl::Lock>(mu_).mutex) == 0;
}

void Mutex::Await(const Condition& condition) {
  absl::Await(At<absl::Lock>(mu_), condition, InfiniteFuture());
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  return absl::Await(At<absl::Lock>(mu_), condition, deadline);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  return AwaitWithDeadline(condition, Now() + timeout);
}

void Mutex::LockWhen(const Condition& condition) {
  Lock();
  Await(condition);
}

bool Mutex::LockWhenWithDeadline(const Condition& condition, Time deadline) {
  Lock();
  return AwaitWithDeadline(condition, deadline);
}

bool Mutex::LockWhenWithTimeout(const Condition& condition, Duration timeout) {
  return LockWhenWithDeadline(condition, Now() + timeout);
}

// Readers exclude each other here, which hides no race.
void Mutex::ReaderLock() { Lock(); }
void Mutex::ReaderUnlock() { Unlock(); }
bool Mutex::ReaderTryLock() { return TryLock(); }

void Mutex::ReaderLockWhen(const Condition& condition) { LockWhen(condition); }

bool Mutex::ReaderLockWhenWithDeadline(const Condition& condition,
                                       Time deadline) {
  return LockWhenWithDeadline(condition, deadline);
}

bool Mutex::ReaderLockWhenWithTimeout(const Condition& condition,
                                      Duration timeout) {
  return LockWhenWithTimeout(condition, timeout);
}

void Mutex::AssertHeld() const {}
void Mutex::AssertNotHeld() const {}
void Mutex::AssertReaderHeld() const {}
void Mutex::ForgetDeadlockInfo() {}
void Mutex::EnableDebugLog(const char*) {}
void Mutex::EnableInvariantDebugging(void (*)(void*), void*) {}

CondVar::~CondVar() { delete reinterpret_cast<absl::Signal*>(cv_.load()); }

void CondVar::Wait(Mutex* mutex) { WaitWithDeadline(mutex, InfiniteFuture()); }

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  auto& lock = At<absl::Lock>(mutex->mu_);
  BeforeRelease(lock);
  return !WaitUntil(At<absl::Signal>(cv_).cond, lock, deadline);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  return WaitWithDeadline(mutex, Now() + timeout);
}

void CondVar::Signal() { pthread_cond_signal(&At<absl::Signal>(cv_).cond); }

void CondVar::SignalAll() {
  pthread_cond_broadcast(&At<absl::Signal>(cv_).cond);
}

void CondVar::EnableDebugLog(const char*) {}

// These two read an atomic first, which the library's code does unseen.
Notification::~Notification() { MutexLock lock(&mutex_); }

void Notification::Notify() {
  MutexLock lock(&mutex_);
  notified_yet_.store(true, std::memory_order_release);
}

void Notification::WaitForNotification() const {
  WaitForNotificationWithDeadline(InfiniteFuture());
}

bool Notification::WaitForNotificationWithDeadline(Time deadline) const {
  if (HasBeenNotified()) return true;
  const Condition notified(&HasBeenNotifiedInternal, &notified_yet_);
  const bool in_time = mutex_.LockWhenWithDeadline(notified, deadline);
  mutex_.Unlock();
  return in_time;
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  return WaitForNotificationWithDeadline(Now() + timeout);
}

bool BlockingCounter::DecrementCount() {
  if (count_.fetch_sub(1, std::memory_order_acq_rel) > 1) return false;
  MutexLock lock(&lock_);
  done_ = true;
  return true;
}

void BlockingCounter::Wait() {
  MutexLock lock(&lock_);
  lock_.Await(Condition(&done_));
}

// Else whoever lets go of the last one seems to race with all who looked at it.
void Status::UnrefNonInlined(uintptr_t rep) {
  status_internal::StatusRep* const shared = RepToPointer(rep);
  if (shared->ref.fetch_sub(1, std::memory_order_acq_rel) == 1) delete shared;
}

ABSL_NAMESPACE_END
}  // namespace absl
