import LDAP
import Sandbox
import Foundation
import Synchronization
import TestSupport
import Testing

/// Prints how long requests take for a client of the LDAP server. It asserts no time.
@Suite(.serialized) struct DetectionTests {
    @Test("200 requests one after the other are detected and processed; the durations are printed")
    func latency() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let daemon = try harness.start()
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            try harness.settings(backup: "HOME_SCRIPT = /bin/true")
            daemon.kill(SIGHUP)
            try await daemon.says("have been reloaded")

            let observer = try await Observer(harness)
            defer { observer.stop() }
            var claimed: [Duration] = []
            var done: [Duration] = []
            for _ in 0..<200 {
                try await harness.request("3724300", "modify")
                let written = ContinuousClock.now
                claimed.append(try await observer.next { $0 != "modify" } - written)
                done.append(try await observer.next { $0 == "modified" } - written)
            }
            print("request to modifying: \(percentiles(claimed))")
            print("request to modified, with a script that does nothing: \(percentiles(done))")
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    private func percentiles(_ durations: [Duration]) -> String {
        let sorted = durations.sorted()
        func text(_ fraction: Double) -> String {
            let value = sorted[min(sorted.count - 1, Int(fraction * Double(sorted.count)))]
            let microseconds = value.components.attoseconds / 1_000_000_000_000 + value.components.seconds * 1_000_000
            return String(format: "%.2f ms", Double(microseconds) / 1000)
        }
        return "p50 \(text(0.5)), p99 \(text(0.99)) over \(sorted.count)"
    }
}

/// Follows the account's mode by a persistent search of its own.
private final class Observer: Sendable {
    private let connection: LDAPConnection
    private let seen = Mutex<[(mode: String, at: ContinuousClock.Instant)]>([])
    private let task: Mutex<Task<Void, any Error>?> = Mutex(nil)

    init(_ harness: DaemonHarness) async throws {
        let credentials = Credentials.simple(
            bindDN: try DN(parsing: harness.sandbox.adminDN), password: Secret(harness.sandbox.adminPassword))
        connection = try await LDAPConnection.open(
            ServerAddress(parsing: harness.sandbox.uri), options: ConnectionOptions(credentials: credentials))
        let request = SearchRequest(
            base: try DN(parsing: SandboxTree.accountsDN), filter: .present("sstProvisioningMode"),
            attributes: ["sstProvisioningMode"])
        let watching = Task { [connection, self] in
            for try await case .entry(let entry, _) in connection.contentSync(request) {
                let now = ContinuousClock.now
                seen.withLock { $0.append((entry.text("sstProvisioningMode") ?? "", now)) }
            }
        }
        task.withLock { $0 = watching }
        try await eventually("the observer has seen the entry") { self.seen.withLock { !$0.isEmpty } }
        seen.withLock { $0 = [] }
    }

    func stop() {
        task.withLock { $0?.cancel() }
        connection.close()
    }

    /// Removes the observations up to the first one of a mode, and returns its time.
    func next(_ isWanted: (String) -> Bool) async throws -> ContinuousClock.Instant {
        var found: ContinuousClock.Instant?
        try await eventually("the mode changes") {
            found = seen.withLock { seen in
                guard let place = seen.firstIndex(where: { isWanted($0.mode) }) else { return nil }
                defer { seen.removeFirst(seen[place].mode == "modified" ? place + 1 : place) }
                return seen[place].at
            }
            return found != nil
        }
        return found ?? .now
    }
}
