import Foundation
import Glibc
import JobCore
import SystemPackage
import Testing

extension Processes {
    /// What a script finds when it starts.
    @Suite struct Surroundings {
        let directory: ScriptDirectory
        init() throws { directory = try ScriptDirectory() }

        @Test("the environment is exactly the given one")
        func environment() async throws {
            let given = ["A": "1", "EMPTY": "", "WITH_EQUALS": "a=b=c", "UMLAUT": "äöü", "lower.dotted": "$(id) `id`"]
            for invocation in try await both(.test("/usr/bin/env", environment: given)) {
                let result = try await ScriptRunner().run(invocation)
                let lines = Set(result.output.lines.map(String.init))
                #expect(lines == Set(given.map { "\($0.key)=\($0.value)" }))
            }
        }

        @Test("F8: arguments arrive unchanged, without a shell")
        func arguments() async throws {
            let given = [
                "", " ", "two words", "'single'", "\"double\"", "a\nb", "tab\t", "$(touch /tmp/no)", "`id`", "$HOME",
                "*", "~", "-rf", "--",
                "-", "\\", "\\n", "a;b", "a|b", "a&b", ">x", "#", "!", "ä😀", "\u{7f}\u{1}",
            ]
            for invocation in try await both(.test("/usr/bin/printf", ["%s\\0"] + given)) {
                let result = try await ScriptRunner().run(invocation)
                let received = result.output.text.split(separator: "\0", omittingEmptySubsequences: false).dropLast()
                #expect(received.map(String.init) == given)
            }
        }

        /// As it is, and by way of the starter.
        private func both(_ invocation: ScriptInvocation) async throws -> [ScriptInvocation] {
            try await ScriptUser.withAndWithoutStarter().map { user in
                var invocation = invocation
                invocation.user = user
                return invocation
            }
        }

        @Test("its umask is that of this process")
        func umask() async throws {
            let ours = try String(contentsOfFile: "/proc/self/status", encoding: .utf8).split(separator: "\n")
                .first { $0.hasPrefix("Umask:") }
            for invocation in try await both(.test("/bin/cat", ["/proc/self/status"])) {
                let result = try await ScriptRunner().run(invocation)
                #expect(result.output.lines.first { $0.hasPrefix("Umask:") } == ours)
            }
        }

        @Test("D4: argument 0 is the absolute path")
        func argumentZero() async throws {
            let script = try directory.script("printf '%s' \"$0\"")
            for invocation in try await both(.test(script)) {
                #expect(try await ScriptRunner().run(invocation).output.text == script.string)
            }
        }

        @Test("L4: standard input is at its end at once")
        func standardInput() async throws {
            let script = try directory.script("readlink /proc/$$/fd/0; read line; echo \"$?:$line\"")
            for invocation in try await both(.test(script)) {
                #expect(try await ScriptRunner().run(invocation).output.lines == ["/dev/null", "1:"])
            }
        }

        @Test("L4: there is no terminal to read from")
        func terminal() async throws {
            let script = try directory.script(
                "if (exec 3</dev/tty) 2>/dev/null; then echo terminal; else echo none; fi")
            for invocation in try await both(.test(script)) {
                #expect(try await ScriptRunner().run(invocation).output.text == "none\n")
            }
        }

        @Test("it leads a session and a process group of its own, without a terminal")
        func session() async throws {
            for invocation in try await both(.test("/bin/cat", ["/proc/self/stat"])) {
                let fields = try await ScriptRunner().run(invocation).output.text.split(separator: " ")
                // pid (name) state parent group session terminal
                try #require(fields.count > 6)
                #expect(fields[1] == "(cat)")
                #expect(fields[4] == fields[0])
                #expect(fields[5] == fields[0])
                #expect(fields[6] == "0")
            }
        }

        @Test("the working directory is the given one")
        func workingDirectory() async throws {
            for invocation in try await both(.test("/bin/pwd", workingDirectory: directory.path)) {
                #expect(try await ScriptRunner().run(invocation).output.text == directory.path.string + "\n")
            }
        }

        @Test("no descriptor of ours is open in it, even one that is not marked close-on-exec")
        func descriptors() async throws {
            let open = Glibc.open("/dev/null", O_RDONLY)
            #expect(open >= 0)
            defer { close(open) }
            for invocation in try await both(.test("/bin/ls", ["/proc/self/fd"])) {
                // 3 is the directory that ls itself reads.
                #expect(try await ScriptRunner().run(invocation).output.lines == ["0", "1", "2", "3"])
            }
        }

        @Test("signals have their default dispositions, and none is blocked")
        func signals() async throws {
            let before = signal(SIGUSR2, SIG_IGN)
            defer { signal(SIGUSR2, before) }
            for invocation in try await both(.test("/bin/cat", ["/proc/self/status"])) {
                let result = try await ScriptRunner().run(invocation)
                for name in ["SigBlk", "SigIgn"] {
                    let line = try #require(result.output.lines.first { $0.hasPrefix("\(name):\t") })
                    let set = try #require(UInt64(line.dropFirst(8), radix: 16))
                    // Bit 0 is signal 1. The C library keeps 32 and 33 to itself.
                    #expect(set & ~(1 << 31 | 1 << 32) == 0, "\(line)")
                }
            }
        }
    }
}
