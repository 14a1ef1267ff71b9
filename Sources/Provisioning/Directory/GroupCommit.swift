import DirectoryClient
import DirectoryModel
import JobCore
import Logging

/// Whether writes may go out together (setting `GROUP_COMMIT`).
public enum GroupCommitMode: String, CaseIterable, Hashable, Sendable {
    /// Where the server offers transactions and tells when it is done with their members.
    case auto
    case off
}

/// Lets writes that wait while a commit is under way go out together, in one transaction: many entries for one disk flush (RFC 5805).
///
/// A write that finds nothing under way goes alone and at once. What comes meanwhile waits until that one is answered, and then goes together.
/// A group that the server refuses is taken apart: the member that it names goes alone, which tells exactly what is wrong, and the others go again.
actor GroupCommit {
    /// What a write is to do.
    enum Answer: Sendable {
        /// Nothing: it has been carried out, in a group. With the entryCSN where it is needed and the entry still stands as it was written.
        case written(csn: AttributeValue?)
        /// Go alone, and tell when the server has answered (``GroupCommit/leave(_:)``).
        /// - `isDoubtful`: it was tried in a group, and nobody knows whether the server has carried that out.
        case alone(Turn, isDoubtful: Bool)
    }

    /// A commit that holds others back.
    struct Turn: Sendable { fileprivate var number: UInt64 }

    private struct Waiting {
        var ticket: UInt64
        var write: EntryWrite
        var key: AccountKey
        var continuation: CheckedContinuation<Answer, any Error>
    }

    private let link: DirectoryLink
    private var reader: AccountReader
    private let logger: Logger
    private var waiting: [Waiting] = []
    private var lastTicket: UInt64 = 0
    private var turn: UInt64 = 0
    /// How many of this turn's commits are not answered yet.
    private var underWay = 0
    private var isTransacting = false
    private var patience: Task<Void, Never>?
    /// The connection that was asked whether it can have transactions, and where its server tells of it.
    private var asked: (connection: DirectoryConnection, monitor: DN)?
    /// The server has transactions that can be ended without harm, as far as is known.
    private var isOffered = true

    /// The most writes of a transaction: beyond that a group gains nothing, and its first member waits for its last.
    static let largestGroup = 128
    /// Refusals of a group's members until the rest go alone.
    private static let mostRefusals = 3
    /// How long one commit may hold others back.
    static let longestTurn = Duration.milliseconds(250)
    private let clock: any SteadyClock

    /// - Parameters:
    ///   - link: of its own: a server has one open transaction for each connection.
    ///   - reader: for the entries as they are afterwards, which a transaction does not tell.
    ///   - clock: by which ``longestTurn`` goes.
    init(
        link: DirectoryLink, reader: AccountReader, clock: any SteadyClock = ContinuousClock(), logger: Logger
    ) {
        self.link = link
        self.reader = reader
        self.clock = clock
        self.logger = logger
    }

    /// - Throws: `CancellationError` when the calling task is cancelled while it waits.
    func enter(_ write: EntryWrite, _ key: AccountKey) async throws -> Answer {
        guard isOffered, underWay > 0 else {
            underWay += 1
            return .alone(Turn(number: turn), isDoubtful: false)
        }
        lastTicket += 1
        let ticket = lastTicket
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                guard !Task.isCancelled else { return continuation.resume(throwing: CancellationError()) }
                waiting.append(Waiting(ticket: ticket, write: write, key: key, continuation: continuation))
                beginPatience()
            }
        } onCancel: {
            Task { await self.giveUp(ticket) }
        }
    }

    /// The server has answered a write that went alone.
    func leave(_ turn: Turn) {
        guard turn.number == self.turn else { return }
        underWay -= 1
        if underWay == 0 { next() }
    }

    /// How many writes are held back.
    var waitingCount: Int { waiting.count }

    /// Another server may be asked from now on.
    func reconfigure(reader: AccountReader) {
        self.reader = reader
        isOffered = true
    }

    private func giveUp(_ ticket: UInt64) {
        guard let place = waiting.firstIndex(where: { $0.ticket == ticket }) else { return }
        waiting.remove(at: place).continuation.resume(throwing: CancellationError())
    }

    /// The turn's commits are answered, or have held others back long enough.
    private func next() {
        patience?.cancel()
        patience = nil
        turn += 1
        underWay = 0
        let group = Array(waiting.prefix(Self.largestGroup))
        waiting.removeFirst(group.count)
        if group.count > 1, isOffered, !isTransacting {
            underWay = 1
            isTransacting = true
            let turn = Turn(number: turn)
            Task {
                await self.transact(group)
                self.isTransacting = false
                self.leave(turn)
            }
        } else {
            alone(group)
        }
        if !waiting.isEmpty { beginPatience() }
    }

    private func alone(_ group: [Waiting], isDoubtful: Bool = false) {
        underWay += group.count
        for one in group { one.continuation.resume(returning: .alone(Turn(number: turn), isDoubtful: isDoubtful)) }
    }

    private func beginPatience() {
        guard patience == nil else { return }
        let end = clock.now + Self.longestTurn
        patience = Task { [turn, clock] in
            do { try await clock.sleep(until: end, tolerance: nil) } catch { return }
            self.isTired(of: turn)
        }
    }

    private func isTired(of turn: UInt64) {
        guard turn == self.turn else { return }
        patience = nil
        next()
    }

    // MARK: - A group

    private func transact(_ group: [Waiting]) async {
        var group = group
        var refusals = 0
        while group.count > 1, refusals < Self.mostRefusals {
            let connection: DirectoryConnection
            let monitor: DN
            do {
                guard let found = try await self.connection() else { break }
                (connection, monitor) = found
            } catch {
                return alone(group)
            }
            do throws(DirectoryError) {
                let members = group.map {
                    TransactionMember($0.key.dn, $0.write.modifications, asserting: $0.write.assertion)
                }
                switch try await connection.modify(inTransaction: members, watching: monitor) {
                case .committed:
                    link.noteSuccess()
                    return tell(group)
                case .refused(let member?, _):
                    refusals += 1
                    alone([group.remove(at: member)])
                case .refused(nil, let error):
                    if !error.isRetryable { giveUpGroups(error) }
                    return alone(group)
                }
            } catch {
                await link.drop(connection, because: error)
                return alone(group, isDoubtful: true)
            }
        }
        alone(group)
    }

    /// Tells the members of a group that has been committed; those whose echo will come with its entryCSN, by which it is known.
    ///
    /// An entry that was changed meanwhile and still stands as it was written asks for nothing else: its change is taken for the echo.
    private func tell(_ group: [Waiting]) {
        for one in group where !one.write.isPending {
            one.continuation.resume(returning: .written(csn: nil))
        }
        let claims = group.filter(\.write.isPending)
        guard !claims.isEmpty else { return }
        // The next group need not wait for it.
        Task {
            var statuses: [EntryUUID: AccountStatus] = [:]
            do {
                statuses = try await reader.statuses(claims.map(\.key.uuid))
            } catch {
                // Without it the echoes are looked at, as anybody's changes are.
                logger.debug("the entries of a group cannot be read: \(error)")
            }
            for one in claims {
                let csn = statuses[one.key.uuid].flatMap { one.write.isFulfilled(by: $0) ? $0.csn : nil }
                one.continuation.resume(returning: .written(csn: csn))
            }
        }
    }

    /// The connection and where its server tells of it; nil when its server has no transactions for us: then groups are given up.
    private func connection() async throws -> (DirectoryConnection, DN)? {
        guard isOffered else { return nil }
        let connection = try await link.connection()
        if let asked, asked.connection === connection { return (connection, asked.monitor) }
        let obstacle: String
        do throws(DirectoryError) {
            if try await !connection.rootDSE().offers(.transactions) {
                obstacle = "\(connection.server) offers no transactions"
            } else if let monitor = try await connection.monitorEntry() {
                asked = (connection, monitor)
                return (connection, monitor)
            } else {
                obstacle = """
                    \(connection.server) does not show cn=Connections,cn=Monitor, without which transactions can crash it; load \
                    etc/openldap/monitor.conf there
                    """
            }
        } catch {
            await link.drop(connection, because: error)
            throw error
        }
        isOffered = false
        logger.notice("GROUP_COMMIT is auto, and writes are committed one by one: \(obstacle)")
        return nil
    }

    private func giveUpGroups(_ error: DirectoryError) {
        isOffered = false
        logger.notice("writes are committed one by one from now on, since the server refuses transactions: \(error)")
    }
}
