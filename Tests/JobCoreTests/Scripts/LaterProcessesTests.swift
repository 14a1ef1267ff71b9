import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

extension Processes {
    /// The numbers by which a short script's survivors are found.
    @Suite struct Later {
        let folder: ScriptFolder
        init() throws { folder = try ScriptFolder() }

        /// Runs a script to its end.
        private func number() async throws -> pid_t {
            let script = try folder.script("echo $$")
            let text = try await ScriptRunner().run(.test(script)).output.text
            return try #require(pid_t(text.dropLast()))
        }

        @Test(
            "every process that is started after one is among the later ones, also one that is started while they are looked at"
        )
        func visits() async throws {
            // When the kernel has just begun its numbers anew, another is asked.
            try await eventually {
                let start = ContinuousClock.now
                let first = try await number()
                let second = try await number()
                var third: pid_t = 0
                var seen: [pid_t] = []
                let isComplete = LaterProcesses(than: first, startedAfter: start).visit { number in
                    if number == second {
                        var arguments: [UnsafeMutablePointer<CChar>?] = [nil]
                        #expect(posix_spawn(&third, "/bin/true", nil, nil, &arguments, nil) == 0)
                        waitpid(third, nil, 0)
                    }
                    seen.append(number)
                    return true
                }
                guard isComplete else { return false }
                #expect(seen.contains(second) && seen.contains(third))
                #expect(seen == Array(first + 1...(seen.last ?? first)))
                return true
            }
        }

        @Test("they cannot be told when it was long ago, or when the kernel has begun its numbers anew")
        func cannotBeTold() async throws {
            let process = try await number()
            for later in [
                LaterProcesses(than: process, startedAfter: .now - .seconds(86_400)),
                LaterProcesses(than: .max - 1, startedAfter: .now),
            ] {
                var calls = 0
                let isComplete = later.visit { _ in
                    calls += 1
                    return true
                }
                #expect(!isComplete)
                #expect(calls == 0)
            }
        }
    }
}
