import DirectoryClient
import Logging

/// Whether writes may go out together (setting `GROUP_COMMIT`).
public enum GroupCommitMode: String, CaseIterable, Hashable, Sendable {
    /// Where the server offers transactions.
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
        /// Nothing: it has been carried out, in a group.
        case written
        /// Go alone, and tell when the server has answered (``GroupCommit/leave(_:)``).
        /// - `isDoubtful`: it was tried in a group, and nobody knows whether the server has carried that out.
        case alone(Turn, isDoubtful: Bool)
    }

    /// A commit that holds others back.
    struct Turn: Sendable { fileprivate var number: UInt64 }

    private struct Waiting {
        var ticket: UInt64
        var member: TransactionMember
        var continuation: CheckedContinuation<Answer, any Error>
    }

    private let link: DirectoryLink
    private let logger: Logger
    private var waiting: [Waiting] = []
    private var lastTicket: UInt64 = 0
    private var turn: UInt64 = 0
    /// How many of this turn's commits are not answered yet.
    private var underWay = 0
    private var isTransacting = false
    private var patience: Task<Void, Never>?
    /// The connection whose server was asked whether it has transactions.
    private var asked: ObjectIdentifier?
    /// The server has transactions, as far as is known.
    private var isOffered = true

    /// The most writes of a transaction: beyond that a group gains nothing, and its first member waits for its last.
    static let largestGroup = 128
    /// Refusals of a group's members until the rest go alone.
    private static let mostRefusals = 3
    /// How long one commit may hold others back.
    private static let longestTurn = Duration.milliseconds(250)

    /// - Parameter link: of its own: a server has one open transaction for each connection.
    init(link: DirectoryLink, logger: Logger) {
        self.link = link
        self.logger = logger
    }

    /// - Throws: `CancellationError` when the calling task is cancelled while it waits.
    func enter(_ member: TransactionMember) async throws -> Answer {
        guard isOffered, underWay > 0 else {
            underWay += 1
            return .alone(Turn(number: turn), isDoubtful: false)
        }
        lastTicket += 1
        let ticket = lastTicket
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                guard !Task.isCancelled else { return continuation.resume(throwing: CancellationError()) }
                waiting.append(Waiting(ticket: ticket, member: member, continuation: continuation))
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
    func reconsider() { isOffered = true }

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
                await self.transact(group, turn)
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
        patience = Task { [turn] in
            do { try await Task.sleep(for: Self.longestTurn) } catch { return }
            self.isTired(of: turn)
        }
    }

    private func isTired(of turn: UInt64) {
        guard turn == self.turn else { return }
        patience = nil
        next()
    }

    // MARK: - A group

    private func transact(_ group: [Waiting], _ turn: Turn) async {
        var group = group
        var refusals = 0
        while group.count > 1, refusals < Self.mostRefusals {
            let connection: DirectoryConnection
            do {
                connection = try await self.connection()
            } catch {
                return alone(group)
            }
            guard isOffered else { break }
            do throws(DirectoryError) {
                switch try await connection.modify(inTransaction: group.map(\.member)) {
                case .committed:
                    link.noteSuccess()
                    for one in group { one.continuation.resume(returning: .written) }
                    return
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

    /// The connection, when its server offers transactions; else groups are given up.
    private func connection() async throws -> DirectoryConnection {
        let connection = try await link.connection()
        guard asked != ObjectIdentifier(connection) else { return connection }
        do throws(DirectoryError) {
            if try await !connection.rootDSE().offers(.transactions) {
                isOffered = false
                logger.info("writes are committed one by one: \(connection.server) offers no transactions")
            }
            asked = ObjectIdentifier(connection)
        } catch {
            await link.drop(connection, because: error)
            throw error
        }
        return connection
    }

    private func giveUpGroups(_ error: DirectoryError) {
        isOffered = false
        logger.notice("writes are committed one by one from now on, since the server refuses transactions: \(error)")
    }
}
