import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import Daemon

/// Which users may use a socket, and that refused users do not delay others.
struct ControlAccessTests {
    private static let isRoot = geteuid() == 0

    private let directory: TemporaryDirectory
    private let lock: InstanceLock

    init() throws {
        directory = try TemporaryDirectory()
        lock = try InstanceLock(in: directory.path)
    }

    /// Answers with the user who asks.
    private static let whoAmI: ControlServer.Handler = { request in
        ControlReply(line: Array("\(request.user.map(String.init) ?? "unknown")".utf8))
    }

    private func withServers(
        _ body: (_ open: ControlServer, _ owner: ControlServer) async throws -> Void
    ) async throws {
        #expect(chmod(directory.path.string, 0o755) == 0)
        let open = try await ControlServer(
            under: lock, at: directory.path.appending("open.sock"), access: .everybody, timeLimit: .seconds(30),
            handler: Self.whoAmI)
        let owner = try await ControlServer(under: lock, handler: Self.whoAmI)
        do {
            try await body(open, owner)
        } catch {
            await open.stop()
            await owner.stop()
            throw error
        }
        await open.stop()
        await owner.stop()
    }

    @Test
    func `root and the daemon's own user are always admitted, others only to open sockets, with limited connections`() {
        let all = ControlAccess.everybody
        let busy = ControlAccess.clientsPerUser
        #expect(all.refusal(of: 0, connections: 1_000, own: 5) == nil)
        #expect(all.refusal(of: 5, connections: 1_000, own: 5) == nil)
        #expect(all.refusal(of: 6, connections: busy - 1, own: 5) == nil)
        #expect(all.refusal(of: 6, connections: busy, own: 5)?.status == .tryAgain)
        #expect(all.refusal(of: nil, connections: 0, own: 5) != nil)
        #expect(ControlAccess.owner.refusal(of: 0, connections: 1_000, own: 5) == nil)
        #expect(ControlAccess.owner.refusal(of: 5, connections: 1_000, own: 5) == nil)
        #expect(ControlAccess.owner.refusal(of: 6, connections: 0, own: 5) != nil)
        #expect(ControlAccess.owner.refusal(of: nil, connections: 0, own: 5) != nil)
    }

    @Test
    func `the file of an open socket is accessible for all users regardless of the umask, that of the other for none`()
        async throws
    {
        try await withServers { open, owner in
            for (server, mode) in [(open, 0o666 as mode_t), (owner, 0o600)] {
                var status = stat()
                #expect(lstat(server.path.string, &status) == 0)
                #expect(status.st_mode & 0o777 == mode)
            }
        }
    }

    @Test func `the handler gets the client's user from the kernel`() async throws {
        try await withServers { open, _ in
            let reply = try await ControlClient(socket: open.path).exchange(ControlRequest(line: Array("{}".utf8)))
            #expect(reply == Array("\(geteuid())".utf8))
        }
    }

    private static let perl = """
        use Socket; $| = 1; my @held;
        sub knock { socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die $!;
            connect($s, pack_sockaddr_un($ARGV[0])) or die "connect: $!"; return $s }
        """

    private func other(_ script: String, _ server: ControlServer) throws -> ChildProcess {
        try ChildProcess([
            "/usr/bin/setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/perl", "-e", Self.perl + script,
            server.path.string,
        ])
    }

    @Test(.enabled(if: isRoot, "only root can become another user"))
    func `another user is admitted to the open socket, and the handler gets the user`() async throws {
        try await withServers { open, _ in
            let child = try other(
                #"my $s = knock(); syswrite($s, "{}\n"); print scalar(<$s>); "#, open)
            #expect(await child.line() == "65534")
            await child.wait()
        }
    }

    @Test(.enabled(if: isRoot, "only root can become another user"))
    func `a user with too many connections is refused, which affects neither other users nor the other socket`()
        async throws
    {
        try await withServers { open, owner in
            let most = ControlAccess.clientsPerUser
            let script =
                "push @held, knock() for 1..\(most); "
                + #"for (1..300) { my $s = knock(); print scalar(<$s>) if $_ == 300; } "#
                + #"print "held\n"; sleep 1000"#
            let flood = try other(script, open)
            #expect(await flood.line().contains("\(most) connections here already"))
            #expect(await flood.line() == "held")
            for server in [open, owner] {
                let reply = try await ControlClient(socket: server.path).exchange(
                    ControlRequest(line: Array("{}".utf8)))
                #expect(reply == Array("0".utf8))
            }
            flood.kill()
            await flood.wait()
            // What he held is his again when he has gone.
            try await eventually("the user is heard again") {
                let again = try other(#"my $s = knock(); syswrite($s, "{}\n"); print scalar(<$s>); "#, open)
                let answer = await again.line()
                await again.wait()
                return answer == "65534"
            }
        }
    }

    @Test func `many silent clients of the open socket do not delay the control socket`() async throws {
        try await withServers { open, owner in
            var held: [Int32] = []
            defer { held.forEach { close($0) } }
            let address = try UnixSocketAddress(open.path.string)
            // More than are served at once and wait in the kernel's queue together.
            for _ in 0..<400 {
                let client = socket(
                    AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue),
                    0)
                guard client >= 0 else { break }
                held.append(client)
                _ = address.withSocketAddress { connect(client, $0, $1) }
            }
            #expect(held.count > 200)
            for _ in 0..<20 {
                let reply = try await ControlClient(socket: owner.path).exchange(ControlRequest(line: Array("{}".utf8)))
                #expect(reply == Array("\(geteuid())".utf8))
            }
        }
    }

    @Test func `an open socket accepts only short requests`() async throws {
        try await withServers { open, _ in
            let long = String(repeating: "A", count: 5_000)
            let error = await #expect(throws: ControlClientError.self) {
                try await ControlClient(socket: open.path).ask(long, for: Bool.self)
            }
            guard case .refused(let failure)? = error else {
                return #expect(Bool(false), "\(String(describing: error))")
            }
            #expect(failure.reason.contains("longer than 4096 bytes"))
        }
    }
}
