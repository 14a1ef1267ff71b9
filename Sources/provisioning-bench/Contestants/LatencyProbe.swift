import LDAP
import Sandbox

/// Writes one wish after the other and watches, by a persistent search of its own, what becomes of it.
struct LatencyProbe: Sendable {
    let stage: Stage

    /// In seconds, of each wish: from its commit to the claim, and to the end.
    struct Samples: Sendable {
        var adding: [Double] = []
        var added: [Double] = []
    }

    /// - Parameter uid: the account that wishes; one with a home.
    func run(_ count: Int, uid: Int) async throws -> Samples {
        let watching = try await Stage.connection(stage.sandbox)
        defer { watching.close() }
        let request = ContentSyncRequest(
            base: try DN(parsing: Stage.accountsDN), filter: .equal("uid", AttributeValue("\(uid)")),
            attributes: ["sstProvisioningMode", "sstProvisioningReturnValue"])
        var events = watching.contentSync(request).makeAsyncIterator()
        while let event = try await events.next(), event != .refreshDone {}
        var samples = Samples()
        for _ in 0..<count {
            // A breath, so that the system is idle again.
            try await Task.sleep(for: .milliseconds(5))
            let (adding, added) = try await one(uid, &events)
            samples.adding.append(adding)
            samples.added.append(added)
        }
        return samples
    }

    /// The wish counts as committed as soon as anything shows that it is: its answer, or its echo in the persistent search.
    private func one(
        _ uid: Int, _ events: inout ContentSync.Iterator
    ) async throws -> (adding: Double, added: Double) {
        let stage = stage
        async let answered = {
            try await stage.wish("modify", uid..<uid + 1)
            return ContinuousClock.now
        }()
        var echoed: ContinuousClock.Instant?
        var claimed: ContinuousClock.Instant?
        while let event = try await events.next() {
            guard case .entry(let entry, _, _) = event else { continue }
            let now = ContinuousClock.now
            switch entry.text("sstProvisioningMode") {
            case "modify": echoed = now
            case "modifying":
                if let value = entry.text("sstProvisioningReturnValue") {
                    throw BenchFailure("the wish failed with ReturnValue \(value)")
                }
                claimed = now
            case "modified" where echoed != nil:
                guard let claimed else { throw BenchFailure("the claim was not seen") }
                let committed = try await min(answered, echoed ?? now)
                return (Self.seconds(claimed - committed), Self.seconds(now - committed))
            default: break
            }
        }
        throw BenchFailure("the persistent search ended")
    }

    private static func seconds(_ duration: Duration) -> Double { duration / .seconds(1) }
}
