#ifndef TENSORFERRY_TESTS_CLI_PROGRAM_H_
#define TENSORFERRY_TESTS_CLI_PROGRAM_H_

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tensorferry::testing {

using Words = std::vector<std::string>;

// The tensorferry command as a process of its own. Killed when the object
// goes, if it still runs.
class Program {
 public:
  // `variables` are added to the environment. Its stdout goes to the file
  // `out_file`, or, if that is empty, to out().
  explicit Program(const Words& words,
                   const std::map<std::string, std::string>& variables = {},
                   const std::string& out_file = "");
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // The rest of a line on stderr that has `text` in it, from behind `text`;
  // empty if it closes stderr first.
  std::string AwaitLog(const std::string& text);
  void Signal(int signal);
  // Ends as a reader of its stderr.
  void CloseErr();
  // Reads all that is left of both outputs, then waits: the exit code, or
  // 128 + the signal that ended it.
  int Wait();

  pid_t pid() const { return pid_; }  // until Wait
  const std::string& out() const { return out_; }
  const std::string& err() const { return err_; }

 private:
  void Drain();

  pid_t pid_ = -1;
  int out_fd_ = -1, err_fd_ = -1;
  std::string out_, err_;
};

}  // namespace tensorferry::testing

#endif  // TENSORFERRY_TESTS_CLI_PROGRAM_H_
