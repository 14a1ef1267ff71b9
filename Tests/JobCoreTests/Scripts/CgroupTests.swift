import CLinux
import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

extension Processes {
    /// A cgroup for each script, where this process can make some.
    @Suite(.enabled(if: TreeWay.obstacle == nil, "\(TreeWay.obstacle ?? "")")) struct Cgroups {
        let directory: ScriptDirectory
        init() throws { directory = try ScriptDirectory() }

        private func run(
            _ body: String, grace: Duration = .seconds(60), user: ScriptUser? = nil
        ) async throws -> ScriptResult {
            let script = try directory.script(ScriptDirectory.note + body)
            let environment = ["PATH": "/usr/bin:/bin", "DIR": directory.path.string]
            return try await ScriptRunner().run(.test(script, environment: environment, grace: grace, user: user))
        }

        private func number(_ name: String) async throws -> pid_t {
            try await processNumber(in: directory.path.appending(name))
        }

        private func cgroups(of maker: pid_t) throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: CgroupParent.own.get().path.string)
                .filter { $0.hasPrefix("script-") && $0.contains("-\(maker)-") }
        }

        @Test("D13: a process that made a session of its own and cleared its environment is found, ended and named")
        func wiped() async throws {
            let result = try await run("env -i setsid sleep 1000 & runs sleep $!; note child $!")
            let child = try await number("child")
            #expect(result.leftovers == ["sleep (\(child))"])
            #expect(!isAlive(child))
        }

        @Test(
            "D13: the same as another user, whose environment may not be read",
            .enabled(if: geteuid() == 0, "only root can become another user"))
        func otherUser() async throws {
            let user = try await ScriptUser.named("nobody")
            #expect(chown(directory.path.string, user.uid, user.gid) == 0)
            let result = try await run("env -i setsid sleep 1000 & runs sleep $!; note child $!", user: user)
            let child = try await number("child")
            #expect(result.leftovers == ["sleep (\(child))"])
            #expect(!isAlive(child))
        }

        @Test("D13: a chain in which each process starts the next and ends at once is ended")
        func forks() async throws {
            // The first of it ends after 30 seconds: a chain that escapes does not burden the machine for ever.
            let result = try await run(
                #"""
                perl -e 'use POSIX; exit 0 if fork; POSIX::setsid(); my $end = time + 30;
                    while (time < $end) { my $child = fork; exit 0 if $child;
                        if (!$made++) { open F, ">$ENV{DIR}/made.new"; print F $$; close F; rename "$ENV{DIR}/made.new", "$ENV{DIR}/made" } }
                    open F, ">$ENV{DIR}/escaped"; close F;'
                noted made
                """#, grace: .milliseconds(300))
            #expect(!result.leftovers.isEmpty)
            #expect(!result.leftovers.contains { $0.contains("did not end after SIGKILL") }, "\(result.leftovers)")
            #expect(!FileManager.default.fileExists(atPath: directory.path.appending("escaped").string))
            #expect(try processes(carrying: "DIR=\(directory.path)") == [])
        }

        @Test(
            "D13: what a script puts into a cgroup below its own is found as well",
            .enabled(if: geteuid() == 0, "needs root"))
        func nested() async throws {
            let parent = try CgroupParent.own.get().path
            let result = try await run(
                """
                own=$(sed -n 's/^0:://p' /proc/self/cgroup); own=\(parent)/${own##*/}
                setsid sleep 1000 & runs sleep $!; note child $!
                mkdir "$own/inner" && echo $! > "$own/inner/cgroup.procs"
                """)
            #expect(result.leftovers == ["sleep (\(try await number("child")))"], "\(result.output.text)")
            try await eventually("both are gone") { try await noneIsLeft() }
        }

        @Test(
            "a process starts in its cgroup, without a write to cgroup.procs",
            .enabled(if: geteuid() == 0, "needs root"))
        func startedInside() throws {
            let path = try CgroupParent.own.get().path.appending("test-\(getpid())-started")
            try FileManager.default.createDirectory(atPath: path.string, withIntermediateDirectories: false)
            defer { rmdir(path.string) }
            let cgroup = try FileDescriptor.open(path, .readOnly, options: [.directory, .closeOnExec])
            defer { try? cgroup.close() }
            let watch = FileDescriptor(rawValue: inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC)))
            defer { try? watch.close() }
            let entrance = path.appending("cgroup.procs")
            #expect(inotify_add_watch(watch.rawValue, entrance.string, UInt32(IN_OPEN)) >= 0)
            func isOpened() throws -> Bool {
                try withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 8) { buffer in
                    do { return try watch.read(into: buffer) > 0 } catch Errno.resourceTemporarilyUnavailable {
                        return false
                    }
                }
            }
            #expect(clinux_try_cgroup(cgroup.rawValue) == 0)
            #expect(try !isOpened())
            // The watch sees such an access.
            try FileDescriptor.open(entrance, .readOnly).close()
            #expect(try isOpened())
        }

        @Test("where clone3(2) does not start a process in its cgroup, the process enters it")
        func entered() throws {
            // clone3(2) refuses what is no cgroup.
            let entrance = directory.path.appending("cgroup.procs")
            try Data().write(to: URL(filePath: entrance.string))
            let cgroup = try FileDescriptor.open(directory.path, .readOnly, options: [.directory, .closeOnExec])
            defer { try? cgroup.close() }
            #expect(clinux_try_cgroup(cgroup.rawValue) == 0)
            #expect(try String(contentsOf: URL(filePath: entrance.string), encoding: .utf8) == "0")
            try FileManager.default.removeItem(atPath: entrance.string)
            #expect(clinux_try_cgroup(cgroup.rawValue) == EIDRM)
        }

        @Test("neither a script that ends nor one that cannot be started leaves a cgroup")
        func removed() async throws {
            _ = try await run("exit 3")
            await #expect(throws: ScriptError.self) {
                try await ScriptRunner().run(.test(directory.script("#!/nonexistent\n", name: "bad.sh")))
            }
            try await eventually("they are gone") { try await noneIsLeft() }
        }

        /// Whether there is no empty one; others belong to scripts of other tests, which may run for minutes. One that the kernel held for too long
        /// on a busy machine is taken away before the next script starts.
        private func noneIsLeft() async throws -> Bool {
            let parent = try CgroupParent.own.get().path
            let empty = try cgroups(of: getpid()).filter { name in
                let events = try? String(contentsOfFile: "\(parent)/\(name)/cgroup.events", encoding: .utf8)
                return events?.contains("populated 0") ?? false
            }
            if empty.isEmpty { return true }
            _ = try await run("exit 0")
            return false
        }

        @Test("an empty cgroup is removed if its maker has ended, and not if it is one of another PID namespace")
        func abandoned() throws {
            let parent = try CgroupParent.own.get()
            let ended = "\(pid_t.max)-\(getpid())"
            let names = [CgroupParent.namespace, "1"].map { "script-0-\($0)-\(ended)" }
            for name in names { mkdir(parent.path.appending(name).string, 0o755) }
            defer { for name in names { rmdir(parent.path.appending(name).string) } }
            parent.removeAbandoned()
            #expect(names.map { access(parent.path.appending($0).string, F_OK) == 0 } == [false, true])
        }

        @Test("a cgroup that is removed before its script starts is not taken for a missing program")
        func removedBefore() throws {
            let cgroup = try CgroupParent.own.get().make()
            #expect(cgroup.remove())
            let fault = Errno(rawValue: clinux_try_cgroup(cgroup.directory))
            #expect(fault == .identifierRemoved)
            #expect(ScriptError.start(of: .test("/bin/true"), errno: fault).code == .resources)
        }

        @Test(
            "D13: what an earlier daemon left running is found by its cgroup, and that of another instance is not touched"
        )
        func leftovers() async throws { try await leftovers(isOfInstance: true) }

        @Test("what an earlier process left running outside of jobs, as in checks, is ended as well")
        func leftoversOfChecks() async throws { try await leftovers(isOfInstance: false) }

        private func leftovers(isOfInstance: Bool) async throws {
            let socket = directory.path.appending("report.sock").string
            let other = Process()
            other.executableURL = URL(filePath: "/usr/bin/sleep")
            other.arguments = ["1000"]
            other.environment = [:]
            try other.run()
            let parent = try CgroupParent.own.get()
            // As one that has ended: numbers of processes are never as large.
            let key = CgroupParent.key(of: isOfInstance ? socket : nil)
            let name = "script-\(key)-\(CgroupParent.namespace)-\(pid_t.max)-1"
            let place = parent.path.appending(name)
            defer { rmdir(place.string) }
            // While it is empty, programs of other tests remove it.
            try await eventually("the program is in it") {
                mkdir(place.string, 0o755)
                return
                    (try? "\(other.processIdentifier)".write(
                        toFile: place.appending("cgroup.procs").string, atomically: false, encoding: .utf8)) != nil
            }
            // Other tests leave programs that belong to no instance, and end those.
            func end(reportingTo socket: String) async -> [String] {
                await LeftoverProcesses.end(reportingTo: socket, grace: .milliseconds(300))
                    .filter { $0.contains("(\(other.processIdentifier))") }
            }
            if isOfInstance {
                #expect(await end(reportingTo: socket + "2") == [])
                #expect(other.isRunning)
            }
            let ended = await end(reportingTo: socket)
            if isOfInstance { #expect(ended.count == 1) }
            try await eventually("it has ended") { !other.isRunning }
            #expect(!FileManager.default.fileExists(atPath: place.string))
        }
    }

    @Suite struct OwnLimits {
        @Test("a script gets the soft limit on open files that this process was started with, and may raise it")
        func openFiles() async throws {
            var limit = rlimit()
            let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
            #expect(getrlimit(resource, &limit) == 0)
            let hard = limit.rlim_max
            limit.rlim_cur = min(limit.rlim_cur, hard - 1)
            #expect(setrlimit(resource, &limit) == 0)
            OwnProcess.raiseOpenFiles()
            let directory = try ScriptDirectory()
            for way in TreeWay.possible {
                let script = try directory.script("ulimit -Sn; ulimit -Hn")
                let result = try await way.runner().run(.test(script))
                #expect(result.output.text == "\(limit.rlim_cur)\n\(hard)\n")
            }
            #expect(getrlimit(resource, &limit) == 0 && limit.rlim_cur == hard)
        }

        @Test("a script starts while this process has more files open than the script may have")
        func manyOpenFiles() async {
            await #expect(processExitsWith: .success) {
                var limit = rlimit()
                let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
                #expect(getrlimit(resource, &limit) == 0)
                limit.rlim_cur = 100
                #expect(setrlimit(resource, &limit) == 0)
                OwnProcess.raiseOpenFiles()
                for _ in 0..<150 { #expect(dup(STDERR_FILENO) > 0) }
                let directory = try ScriptDirectory()
                let result = try await ScriptRunner().run(.test(try directory.script("ulimit -Sn")))
                #expect(result.output.text == "100\n")
            }
        }

        @Test("no core dump is made of this process, and scripts start as before")
        func coreDumps() async {
            await #expect(processExitsWith: .success) {
                typealias Control = @convention(c) (Int32, UInt, UInt, UInt, UInt) -> Int32
                let control = try unsafeBitCast(#require(dlsym(nil, "prctl")), to: Control.self)
                let isDumpable: Int32 = 3  // PR_GET_DUMPABLE
                #expect(control(isDumpable, 0, 0, 0, 0) == 1)
                OwnProcess.forbidCoreDumps()
                #expect(control(isDumpable, 0, 0, 0, 0) == 0)
                let directory = try ScriptDirectory()
                var invocation = ScriptInvocation.test(try directory.script("exit 7"))
                for user in try await ScriptUser.withAndWithoutStarter() {
                    invocation.user = user
                    #expect(try await ScriptRunner().run(invocation).termination == .exited(code: 7))
                }
            }
        }
    }
}
