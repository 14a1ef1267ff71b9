import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

extension Processes {
    /// A script that runs as a user has that user's rights and no others, from its first line on.
    @Suite(.enabled(if: geteuid() == 0, "needs root: the rights of others")) struct Users {
        let directory: ScriptDirectory
        let nobody: ScriptUser

        init() async throws {
            directory = try ScriptDirectory()
            nobody = try await ScriptUser.named("nobody")
        }

        private func status(_ text: String) -> [Substring: Substring] {
            let fields = text.split(separator: "\n").map { $0.split(separator: ":", maxSplits: 1) }
            return Dictionary(fields.filter { $0.count == 2 }.map { ($0[0], $0[1]) }, uniquingKeysWith: { $1 })
        }

        @Test("ids, groups and capabilities are the user's, and no program can add to them")
        func proof() async throws {
            let result = try await ScriptRunner().run(.test("/bin/cat", ["/proc/self/status"], user: nobody))
            #expect(result.termination == .exited(code: 0))
            let status = status(result.output.text)
            let numbers = { (name: Substring) in
                try #require(status[name]).split(whereSeparator: \.isWhitespace).map { try #require(UInt32($0)) }
            }
            #expect(try numbers("Uid") == [UInt32](repeating: nobody.uid, count: 4))
            #expect(try numbers("Gid") == [UInt32](repeating: nobody.gid, count: 4))
            #expect(try Set(numbers("Groups")) == Set(nobody.groups))
            for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] as [Substring] {
                #expect(status[name] == "\t0000000000000000", "\(name)")
            }
            #expect(status["NoNewPrivs"] == "\t1")
        }

        @Test("a file of root cannot be read, and neither setuid nor a set-user-id program restores privileges")
        func noWayBack() async throws {
            let secret = directory.path.appending("secret")
            try Data("hidden".utf8).write(to: URL(filePath: secret.string))
            #expect(chmod(secret.string, 0o600) == 0)
            let setUserID = directory.path.appending("id")
            try FileManager.default.copyItem(atPath: "/usr/bin/id", toPath: setUserID.string)
            #expect(chmod(setUserID.string, 0o4755) == 0)
            let script = try directory.script(
                #"""
                cat "$1" 2>&1 && echo READ
                perl -e 'use POSIX; $< = 0; $> = 0; POSIX::setuid(0); print "uid $< $>\n"'
                "$2" -u
                """#)
            let result = try await ScriptRunner().run(.test(script, [secret.string, setUserID.string], user: nobody))
            #expect(!result.output.text.contains("hidden") && !result.output.text.contains("READ"))
            #expect(result.output.text.contains("Permission denied"))
            #expect(result.output.text.contains("uid \(nobody.uid) \(nobody.uid)\n"))
            #expect(result.output.lines.last == "\(nobody.uid)")
        }

        @Test(
            "D13: what it leaves in a session of its own is found and ended, as is what ignores SIGTERM at its time limit"
        )
        func leftovers() async throws {
            let environment = ["PATH": "/usr/bin:/bin", "SIGN": directory.path.string]
            let left = try await ScriptRunner().run(
                .test(
                    try directory.script(ScriptDirectory.note + "setsid sleep 1000 & runs sleep $!; echo $!"),
                    environment: environment, user: nobody))
            let number = try #require(left.output.lines.first)
            #expect(left.leftovers == ["sleep (\(number))"])
            let script = try directory.script(
                "trap '' TERM; echo deaf; while :; do sleep 0.1; done", name: "stubborn.sh")
            let (clock, live) = (ManualSteadyClock(), LiveOutput())
            let running = Task {
                try await ScriptRunner(clock: clock).run(
                    .test(script, environment: environment, user: nobody), live: live)
            }
            try await eventually("it ignores SIGTERM") { await live.captured.text == "deaf\n" }
            let stubborn = try await clock.passes(until: running)
            #expect(stubborn.termination == .signaled(number: SIGKILL))
            #expect(stubborn.cause == .timeLimit)
            #expect(try processes(carrying: "SIGN=\(directory.path)") == [])
        }

        @Test("a script that the user cannot reach or execute is not started, and the error names user and operation")
        func unreachable() async throws {
            let script = try directory.script("exit 0")
            for (path, mode) in [(script, 0o744), (directory.path, 0o700)] as [(FilePath, mode_t)] {
                #expect(chmod(path.string, mode) == 0)
                let error = await #expect(throws: ScriptError.self) {
                    try await ScriptRunner().run(.test(script, user: nobody))
                }
                #expect(error?.code == .user)
                #expect(error?.errno == .permissionDenied)
                #expect(error?.failureClass == .configuration)
                #expect(error?.description.contains("nobody (\(nobody.uid))") == true)
                #expect(error?.hint.contains("namei -l \(script)") == true)
                #expect(chmod(path.string, 0o755) == 0)
            }
            #expect(try await ScriptRunner().run(.test(script, user: nobody)).termination == .exited(code: 0))
        }

        @Test("a failed start has the same error with and without a starter")
        func faults() async throws {
            let text = directory.path.appending("text")
            try Data("no program".utf8).write(to: URL(filePath: text.string))
            #expect(chmod(text.string, 0o755) == 0)
            let faults: [(FilePath, ScriptError.Code)] = [
                (directory.path.appending("gone"), .notFound), (text, .format),
                (try directory.script("#!/no/such/interpreter\n", name: "interpreter.sh"), .interpreter),
            ]
            for (path, code) in faults {
                let error = await #expect(throws: ScriptError.self) {
                    try await ScriptRunner().run(.test(path, user: nobody))
                }
                #expect(error?.code == code, "\(path)")
            }
        }

        @Test("a script that is stopped while its user is being set was stopped, and no error of the user is reported")
        func stoppedAtOnce() async throws {
            var invocation = ScriptInvocation.test("/bin/sleep", ["1000"], user: nobody)
            invocation.timeLimit = .zero
            #expect(try await ScriptRunner().run(invocation).cause == .timeLimit)
        }

        @Test("without the privilege to change users nothing is started, and the error has a hint")
        func notRoot() async throws {
            let began = directory.path.appending("began")
            let script = try directory.script("exec > \"$1\"")
            // As another user this program could not even try: so the groups are more than the kernel takes.
            let many = ScriptUser(
                name: "nobody", uid: nobody.uid, gid: nobody.gid, groups: (0..<70_000).map { UInt32($0) })
            let error = await #expect(throws: ScriptError.self) {
                try await ScriptRunner().run(.test(script, [began.string], user: many))
            }
            #expect(error?.code == .user || error?.code == .tooLong)
            #expect(!FileManager.default.fileExists(atPath: began.string))
            // A starter that has given its rights away starts another: it may not.
            let starter = try #require(FileManager.default.destinationOfSymbolicLinkIfPresent("/proc/self/exe"))
            let perl = try directory.script(
                #"""
                #!/usr/bin/perl
                use POSIX;
                pipe(my $in, my $out) or die;
                my $child = fork;
                if ($child == 0) {
                    POSIX::dup2(fileno($out), 0);
                    exec { $ARGV[0] } "start of a script", "65534 65534 0 ", "/bin/echo", "BEGAN";
                    die;
                }
                close $out;
                waitpid($child, 0);
                print "exit ", $? >> 8, " ";
                sysread($in, my $report, 64);
                print join(" ", unpack("i*", $report)), "\n";
                """#, name: "starter.pl")
            let result = try await ScriptRunner().run(.test(perl, [starter], user: nobody))
            #expect(!result.output.text.contains("BEGAN"))
            // Exit 127; step 4, capabilities; EPERM; capability 0.
            #expect(result.output.text == "exit 127 4 \(EPERM) 0\n")
        }

        @Test("remaining privileges are detected: user 0 is refused by the proof")
        func proofRefuses() async throws {
            let root = ScriptUser(name: "root", uid: 0, gid: 0, groups: [0])
            let error = await #expect(throws: ScriptError.self) {
                try await ScriptRunner().run(.test("/bin/true", user: root))
            }
            #expect(error?.code == .user)
            #expect(error?.reason.contains("proof 1") == true)
        }

        @Test("a user may have root's group")
        func groupOfRoot() async throws {
            let user = ScriptUser(name: "nobody", uid: nobody.uid, gid: 0, groups: [0])
            let result = try await ScriptRunner().run(.test("/usr/bin/id", ["-u"], user: user))
            #expect(result.output.text == "\(nobody.uid)\n")
        }

        @Test(
            "a variable that would have the user's code loaded with root's rights is refused",
            arguments: ["LD_PRELOAD", "GLIBC_TUNABLES"])
        func loader(name: String) async throws {
            let error = await #expect(throws: ScriptError.self) {
                try await ScriptRunner().run(.test("/bin/true", environment: [name: "/tmp/x.so"], user: nobody))
            }
            #expect(error?.code == .environment)
            #expect(error?.reason.contains(name) == true)
            let plain = try await ScriptRunner().run(.test("/usr/bin/env", environment: [name: ""]))
            #expect(plain.output.lines.contains("\(name)="))
        }

        @Test("L2: the user of a script is not a trusted owner of it")
        func owner() throws {
            let script = try directory.script("exit 0")
            #expect(chown(script.string, nobody.uid, nobody.gid) == 0)
            let error = #expect(throws: FileTrustError.self) { try FileTrust.check(script) }
            #expect(error?.problem == .wrongOwner(trusted: [0]))
        }
    }

    @Suite struct UserNames {
        @Test("a user is looked up in the system's databases, with all groups")
        func known() async throws {
            let user = try await ScriptUser.named("daemon")
            let result = try await ScriptRunner().run(.test("/usr/bin/id", ["-G", "daemon"]))
            #expect(
                Set(user.groups.map(String.init)) == Set(result.output.lines[0].split(separator: " ").map(String.init)))
            #expect(user.groups.contains(user.gid))
        }

        @Test(
            "a name that cannot be used is refused with its hint",
            arguments: [
                ("no-such-user", ScriptUserError.Problem.unknown), ("", .unknown), ("nobody\0root", .unknown),
                ("root", .root),
            ])
        func refused(name: String, problem: ScriptUserError.Problem) async throws {
            let error = await #expect(throws: ScriptUserError.self) { try await ScriptUser.named(name) }
            #expect(error?.problem == problem)
            #expect(error?.failureClass == .configuration)
            #expect(error?.description.contains("setting") == true)
        }
    }
}

extension FileManager {
    fileprivate func destinationOfSymbolicLinkIfPresent(_ path: String) -> String? {
        do { return try destinationOfSymbolicLink(atPath: path) } catch { return nil }
    }
}
