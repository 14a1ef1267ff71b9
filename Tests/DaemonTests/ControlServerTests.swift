import Foundation
import SystemPackage
import Testing

@testable import Daemon

private struct Question: Codable { var command: String }
private struct Answer: Codable, Equatable { var text: String }

/// A client that does only what a test says.
private final class RawClient: Sendable {
    let descriptor: Int32

    init(_ path: FilePath) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        let address = try UnixSocketAddress(path.string)
        guard address.withSocketAddress({ connect(descriptor, $0, $1) }) == 0 else { throw Errno(rawValue: errno) }
    }

    deinit { close(descriptor) }

    func send(_ text: String) { _ = Foundation.send(descriptor, text, text.utf8.count, Int32(MSG_NOSIGNAL)) }

    /// Until the server closes; blocks a thread of the tests, so it is called on one of its own.
    func readToEnd() async -> [UInt8] {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread { [descriptor] in
                var all: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 65_536)
                while true {
                    let count = recv(descriptor, &buffer, buffer.count, 0)
                    if count < 0, errno == EINTR { continue }
                    guard count > 0 else { break }
                    all += buffer[..<count]
                }
                continuation.resume(returning: all)
            }
        }
    }
}

struct ControlServerTests {
    private let directory: TemporaryDirectory
    private let lock: InstanceLock

    init() throws {
        directory = try TemporaryDirectory()
        lock = try InstanceLock(in: directory.path)
    }

    private static let echo: ControlServer.Handler = { request in
        do {
            let question = try request.decode(Question.self)
            return try ControlReply(done: Answer(text: question.command))
        } catch {
            return .refusal(CommandFailure("this is no question: \(error)", hint: "ask"))
        }
    }

    private func withServer(
        timeLimit: Duration = .seconds(60), handler: @escaping ControlServer.Handler = echo,
        _ body: (ControlServer, ControlClient) async throws -> Void
    ) async throws {
        let server = try await ControlServer(under: lock, timeLimit: timeLimit, handler: handler)
        do {
            try await body(server, ControlClient(socket: server.path))
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    @Test func `a request gets its reply, also with many concurrent clients`() async throws {
        try await withServer { _, client in
            try await withThrowingTaskGroup { group in
                for number in 0..<150 {
                    group.addTask { (number, try await client.ask(Question(command: "\(number)"), for: Answer.self)) }
                }
                for try await (number, answer) in group {
                    #expect(answer == Answer(text: "\(number)"))
                }
            }
        }
    }

    @Test func `a request that the handler refuses is an error with the reason`() async throws {
        try await withServer { _, client in
            let error = await #expect(throws: ControlClientError.self) { try await client.ask([1], for: Answer.self) }
            guard case .refused(let failure)? = error else {
                return #expect(Bool(false), "\(String(describing: error))")
            }
            #expect(failure.reason.hasPrefix("this is no question"))
        }
    }

    @Test func `silent clients do not delay others`() async throws {
        try await withServer { server, client in
            let silent = try (0..<20).map { _ in try RawClient(server.path) }
            silent[0].send("{\"comm")
            let answer = try await client.ask(Question(command: "x"), for: Answer.self)
            #expect(answer == Answer(text: "x"))
            withExtendedLifetime(silent) {}
        }
    }

    @Test func `silent clients are disconnected`() async throws {
        try await withServer(timeLimit: .milliseconds(100)) { server, _ in
            let silent = try (0..<20).map { _ in try RawClient(server.path) }
            silent[0].send("{\"comm")
            for one in silent { #expect(await one.readToEnd().isEmpty) }
        }
    }

    @Test func `a client that does not read its reply is disconnected`() async throws {
        let size = 16 << 20
        let large: ControlServer.Handler = { _ in ControlReply(line: [UInt8](repeating: 65, count: size)) }
        try await withServer(timeLimit: .seconds(1), handler: large) { server, _ in
            let deaf = try RawClient(server.path)
            deaf.send("{}\n")
            // The server hangs up although the client has not: only then does poll tell so.
            var watched = pollfd(fd: deaf.descriptor, events: 0, revents: 0)
            let deadline = ContinuousClock.now + .seconds(60)
            while watched.revents & Int16(POLLHUP) == 0, ContinuousClock.now < deadline {
                _ = poll(&watched, 1, 0)
                try await Task.sleep(for: .milliseconds(5))
            }
            #expect(await deaf.readToEnd().count < size)
        }
    }

    @Test func `a reply of many megabytes is complete`() async throws {
        let line = [UInt8](repeating: 65, count: 8 << 20)
        try await withServer(handler: { _ in ControlReply(line: line) }) { _, client in
            let reply = try await client.exchange(ControlRequest(line: []))
            #expect(reply == line)
        }
    }

    @Test func `a request beyond the limit is refused, by the server and before that by the client`() async throws {
        try await withServer { server, client in
            let rude = try RawClient(server.path)
            rude.send(String(repeating: "x", count: 100_000))
            #expect(String(decoding: await rude.readToEnd(), as: UTF8.self).contains("longer than 65536 bytes"))
            await #expect(throws: ControlClientError.tooLarge(100_000)) {
                try await client.exchange(ControlRequest(line: [UInt8](repeating: 65, count: 100_000)))
            }
        }
    }

    @Test func `a request of the maximum size is accepted`() async throws {
        try await withServer(handler: { ControlReply(line: Array("\($0.line.count)".utf8)) }) { _, client in
            let largest = ControlRequest(line: [UInt8](repeating: 65, count: ControlRequest.sizeLimit))
            let count = try await client.exchange(largest)
            #expect(count == Array("65536".utf8))
        }
    }

    @Test func `a line in pieces is one request, and what follows it is ignored`() async throws {
        try await withServer { server, _ in
            let client = try RawClient(server.path)
            client.send("{\"command\":")
            // Another client is served meanwhile, so the first piece has been read.
            _ = try await ControlClient(socket: server.path).ask(Question(command: "x"), for: Answer.self)
            client.send("\"whole\"}\nmore\n{}\n")
            #expect(String(decoding: await client.readToEnd(), as: UTF8.self).contains("whole"))
        }
    }

    @Test func `an incomplete request gets no reply, and an empty reply is none`() async throws {
        try await withServer(handler: { _ in ControlReply(line: []) }) { server, client in
            let half = try RawClient(server.path)
            half.send("{\"command\":")
            shutdown(half.descriptor, Int32(SHUT_WR))
            #expect(await half.readToEnd().isEmpty)
            await #expect(throws: ControlClientError.cutOff(server.path)) {
                try await client.exchange(ControlRequest(line: []))
            }
        }
    }

    @Test func `a client that stops sending still gets its reply`() async throws {
        try await withServer { server, _ in
            let client = try RawClient(server.path)
            client.send("{\"command\":\"half\"}\n")
            shutdown(client.descriptor, Int32(SHUT_WR))
            #expect(
                String(decoding: await client.readToEnd(), as: UTF8.self) == #"{"done":{"_0":{"text":"half"}}}"# + "\n")
        }
    }

    @Test func `the handler of a client that disconnects is cancelled`() async throws {
        let (began, beganSignal) = AsyncStream.makeStream(of: Void.self)
        let (cancelled, cancelledSignal) = AsyncStream.makeStream(of: Void.self)
        let slow: ControlServer.Handler = { _ in
            beganSignal.finish()
            do { try await Task.sleep(for: .seconds(1_000)) } catch { cancelledSignal.finish() }
            return ControlReply(line: [])
        }
        try await withServer(handler: slow) { server, _ in
            var client: RawClient? = try RawClient(server.path)
            client?.send("{}\n")
            for await _ in began {}
            client = nil
            for await _ in cancelled {}
        }
    }

    @Test func `stopping disconnects clients, removes the socket, and ends listening`() async throws {
        let server = try await ControlServer(under: lock) { _ in
            do { try await Task.sleep(for: .seconds(1_000)) } catch {
                return .refusal(CommandFailure("too late", hint: ""))
            }
            return ControlReply(line: [])
        }
        let waiting = try RawClient(server.path)
        waiting.send("{}\n")
        await server.stop()
        await server.stop()
        #expect(await waiting.readToEnd().isEmpty)
        #expect(!FileManager.default.fileExists(atPath: server.path.string))
        let client = ControlClient(socket: server.path)
        let error = await #expect(throws: ControlClientError.self) {
            try await client.exchange(ControlRequest(line: []))
        }
        #expect(error == .notListening(server.path))
        #expect(error?.failure.status == .tryAgain)
        #expect(error?.description.contains("no daemon listens") == true)
    }

    @Test func `a client gives up at its own deadline`() async throws {
        let (never, signal) = AsyncStream.makeStream(of: Void.self)
        try await withServer(handler: { _ in
            for await _ in never {}
            return ControlReply(line: [])
        }) { server, _ in
            let client = ControlClient(socket: server.path, timeout: .milliseconds(100))
            await #expect(throws: ControlClientError.timedOut(server.path, .milliseconds(100))) {
                try await client.exchange(ControlRequest(line: []))
            }
            signal.finish()
        }
    }

    @Test func `a leftover socket is replaced, other files are not`() async throws {
        let path = ControlServer.socketPath(in: directory.path)
        let dead = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        #expect(try UnixSocketAddress(path.string).withSocketAddress { bind(dead, $0, $1) } == 0)
        close(dead)
        await #expect(throws: ControlClientError.notListening(path)) {
            try await ControlClient(socket: path).exchange(ControlRequest(line: []))
        }
        try await withServer { server, client in
            #expect(server.path == path)
            let answer = try await client.ask(Question(command: "x"), for: Answer.self)
            #expect(answer == Answer(text: "x"))
        }
        _ = try directory.file("control.sock", "precious")
        let error = await #expect(throws: CommandFailure.self) {
            try await ControlServer(under: lock, handler: Self.echo)
        }
        #expect(
            error?.reason.hasPrefix("\(path): ") == true && error?.hint.contains("another file has this name") == true)
    }

    private func links(_ directory: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory).compactMap { name in
            do {
                return try FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/\(name)")
            } catch {
                return nil  // Closed meanwhile by another test.
            }
        }
    }

    /// Of the socket in this process that listens at the path.
    private static func inode(ofSocketAt path: FilePath) -> UInt64? {
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
        for descriptor in descriptors.compactMap({ Int32($0) }) {
            var address = sockaddr_un()
            var length = socklen_t(MemoryLayout<sockaddr_un>.size)
            let found = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
            }
            guard found == 0, address.sun_family == AF_UNIX else { continue }
            let name = withUnsafeBytes(of: &address.sun_path) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            var listens: Int32 = 0
            var size = socklen_t(4)
            getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size)
            var status = stat()
            if name == path.string, listens == 1, fstat(descriptor, &status) == 0 { return UInt64(status.st_ino) }
        }
        return nil
    }

    @Test func `only the owner can use the socket, and child processes do not inherit it`() async throws {
        try await withServer { server, _ in
            var status = stat()
            #expect(lstat(server.path.string, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600)
            let inode = try #require(Self.inode(ofSocketAt: server.path))
            #expect(try links("/proc/self/fd").contains("socket:[\(inode)]"))
            let child = try ChildProcess(["/bin/sh", "-c", "echo started; exec sleep 1000"])
            #expect(await child.line() == "started")
            #expect(try !links("/proc/\(child.id)/fd").contains("socket:[\(inode)]"))
            child.kill()
            await child.wait()
        }
    }

    @Test(.enabled(if: geteuid() == 0, "only root can become another user"))
    func `another user is refused even if the file's mode permits access`() async throws {
        try await withServer { server, _ in
            #expect(chmod(directory.path.string, 0o755) == 0)
            #expect(chmod(server.path.string, 0o666) == 0)
            let script = """
                use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
                connect($s, pack_sockaddr_un($ARGV[0])) or die; print scalar(<$s>)
                """
            let child = try ChildProcess([
                "/usr/bin/setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/perl", "-e", script,
                server.path.string,
            ])
            #expect(await child.line().contains("only root and the daemon's own user"))
            await child.wait()
        }
    }

    @Test func `a path that is too long for a socket is an error with its hint`() async throws {
        let deep = directory.path.appending(String(repeating: "d", count: 100))
        try RuntimeDirectory.prepare(deep)
        let error = await #expect(throws: CommandFailure.self) {
            try await ControlServer(under: try InstanceLock(in: deep), handler: Self.echo)
        }
        #expect(error?.description.contains("set a shorter RUNTIME_DIRECTORY") == true)
    }
}
