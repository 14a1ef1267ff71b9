public import DirectoryModel

extension DirectoryConnection {
    /// How long a connection stays open after a transaction whose end nobody knows.
    private static let lingering = Duration.seconds(30)

    /// Changes many entries at once, for one disk flush: all of them or none (RFC 5805).
    ///
    /// A server has one open transaction for each connection, so the connection is to be used for nothing else meanwhile.
    ///
    /// slapd (2.5.13; later sources read the same) answers a member before its thread is done with it, and can crash when the transaction ends in
    /// that moment; so the end is sent only when the server has nothing under way on the connection any more. It can crash as well when the
    /// connection is closed, or an operation abandoned, within a transaction. So a cancelled task waits for the answer all the same, a close waits for
    /// the end, and a connection whose transaction has no known end stays open for a while. What cannot be helped from here is that this
    /// process, or the network, ends the connection.
    /// - Parameter monitor: where the server tells of this connection, see ``monitorEntry()``.
    /// - Throws: when it did not come to an answer; with `isOutcomeUnknown` or `isConnectionLost` it may have been carried out. The connection
    ///   cannot be used any more.
    public func modify(
        inTransaction members: [TransactionMember], watching monitor: DN
    ) async throws(DirectoryError) -> TransactionOutcome {
        transactionBegins()
        do throws(DirectoryError) {
            let outcome = try await carryOut(members, monitor)
            transactionEnds()
            return outcome
        } catch {
            close()
            guard mailbox.end == nil else { throw error }
            Task.detached {
                do { try await Task.sleep(for: Self.lingering) } catch {
                    // Nobody holds the task, so nobody cancels it.
                }
                self.transactionEnds()
            }
            throw error
        }
    }

    /// Where slapd's monitor database tells of this connection: the entry that counts exactly the requests that were sent here.
    /// - Returns: nil when the server has no such database, or does not show it to us.
    public func monitorEntry() async throws(DirectoryError) -> DN? {
        let received: AttributeName = "monitorConnectionOpsReceived"
        let request = Request.search(
            base: Self.connections, scope: .oneLevel, filter: .equal("objectClass", "monitorConnection"),
            attributes: [received], sizeLimit: 0)
        for _ in 0..<Self.mostLooks {
            let response = try await performWhole(request)
            guard response.outcome.code == .success else { return nil }
            let found = response.entries.filter { $0.text(received) == "\(response.messageID)" }
            if found.count == 1 { return found[0].dn }
            if found.isEmpty { return nil }
            // Others have come to the same number, perhaps in step with us.
            for _ in 0..<Int.random(in: 0..<4) { _ = try await performWhole(request) }
        }
        return nil
    }

    private static let connections = DN(rdns: [RDN("cn", "Connections"), RDN("cn", "Monitor")])
    private static let mostLooks = 10

    private func carryOut(
        _ members: [TransactionMember], _ monitor: DN
    ) async throws(DirectoryError) -> TransactionOutcome {
        let start = Request.extended(
            name: "start a transaction", identifier: RootDSE.Feature.transactions.rawValue, value: nil)
        let started = try await performWhole(start).outcome
        guard started.code == .success else { return .refused(member: nil, error(started, start)) }
        let identifier = started.value ?? []
        let answers = try await send(members, of: identifier)
        try await settle(monitor)
        if let refused = answers.firstIndex(where: { $0.outcome.code != .success }) {
            _ = try await end(identifier, isCommit: false)
            return .refused(member: refused, error(answers[refused].outcome, Self.request(members[refused])))
        }
        let end = try await end(identifier, isCommit: true)
        guard end.outcome.code != .success else { return .committed }
        let refused = end.outcome.refusedMember.flatMap { id in answers.firstIndex { $0.messageID == id } }
        let request = refused.map { Self.request(members[$0]) } ?? Self.end(identifier, isCommit: true)
        return .refused(member: refused, error(end.outcome, request))
    }

    /// Sends all members, and waits for all answers: a server may carry out an end before a member that was sent earlier.
    private func send(_ members: [TransactionMember], of identifier: [UInt8]) async throws(DirectoryError) -> [Response]
    {
        let results = await withTaskGroup(of: (Int, Result<Response, DirectoryError>).self) { group in
            for (place, member) in members.enumerated() {
                group.addTask {
                    do throws(DirectoryError) {
                        let controls = member.assertion.map { [Control.assertion($0)] } ?? []
                        return (
                            place,
                            .success(
                                try await self.performWhole(
                                    Self.request(member), controls: controls + [.transaction(identifier)]))
                        )
                    } catch {
                        return (place, .failure(error))
                    }
                }
            }
            var results = [Result<Response, DirectoryError>?](repeating: nil, count: members.count)
            for await (place, result) in group { results[place] = result }
            return results
        }
        var answers: [Response] = []
        for case let result? in results { answers.append(try result.get()) }
        return answers
    }

    /// Returns when the server has nothing under way on this connection but the question itself.
    private func settle(_ monitor: DN) async throws(DirectoryError) {
        let executing: AttributeName = "monitorConnectionOpsExecuting"
        let request = Request.search(
            base: monitor, scope: .base, filter: .present("objectClass"), attributes: [executing], sizeLimit: 0)
        let deadline = ContinuousClock.now + operationTimeout
        var pause = Duration.zero
        while ContinuousClock.now < deadline {
            let response = try await performWhole(request)
            guard let count = response.entries.first?.text(executing) else { throw error(response.outcome, request) }
            if count == "1" { return }
            do { try await Task.sleep(for: pause) } catch {
                // A cancelled task asks without a pause: the transaction is to come to its end all the same.
            }
            pause = min(pause + .microseconds(100), .milliseconds(10))
        }
        throw DirectoryError(.timeout, operation: "\(request)", server: "\(server)")
    }

    private func end(_ identifier: [UInt8], isCommit: Bool) async throws(DirectoryError) -> Response {
        try await performWhole(Self.end(identifier, isCommit: isCommit))
    }

    private static func request(_ member: TransactionMember) -> Request { .modify(member.dn, member.modifications) }

    private static func end(_ identifier: [UInt8], isCommit: Bool) -> Request {
        let commit = isCommit ? [] : BER.flag(BER.boolean, false)
        return .extended(
            name: isCommit ? "commit a transaction" : "abort a transaction", identifier: "1.3.6.1.1.21.3",
            value: BER.element(BER.sequence, commit + BER.element(BER.octets, identifier)))
    }
}

extension Outcome {
    /// The message id of the member that a transaction failed for; nil when the server names none (RFC 5805, section 2.4).
    fileprivate var refusedMember: Int32? {
        guard let value else { return nil }
        var reader = BERReader(value)
        do throws(BERReader.Malformed) {
            var members = try reader.members(BER.sequence)
            guard members.nextTag == BER.integer else { return nil }
            return Int32(clamping: try members.number(BER.integer))
        } catch {
            // What cannot be read names none; what counts is the result code.
            return nil
        }
    }
}
