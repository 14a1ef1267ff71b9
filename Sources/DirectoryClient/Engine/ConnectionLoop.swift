import Glibc

/// What the connection's thread does from bind to close: send what waits, read what has come, sleep until either or a deadline.
/// An idle connection sleeps for ever: no wake-ups.
struct ConnectionLoop: ~Copyable {
    private let handle: LDAPHandle
    private let mailbox: Mailbox
    private let server: ServerAddress
    private var table = OperationTable()
    private var operations: [OperationTable.ID: Operation] = [:]
    private var abandoned: [Int32] = []
    /// A stream's consumer lags, so nothing is read.
    private var isPaused = false

    /// Messages that are read before the mailbox is looked at again.
    private static let burst = 256

    init(handle: consuming LDAPHandle, mailbox: Mailbox, server: ServerAddress) {
        self.handle = handle
        self.mailbox = mailbox
        self.server = server
    }

    /// Returns when the connection has ended and every operation has been told.
    mutating func run() {
        var end = Self.closed(server)
        do throws(DirectoryError) {
            repeat {} while try serve()
        } catch {
            end = error
        }
        for case .start(let operation) in mailbox.end(with: end) { operations[operation.id] = operation }
        for operation in operations.values { operation.fail(end.about("\(operation.request)")) }
        operations = [:]
    }

    /// What operations are told when we close.
    static func closed(_ server: ServerAddress) -> DirectoryError {
        DirectoryError(
            .serverDown, operation: "close", server: "\(server)", diagnostic: "the connection was closed on our side",
            isConnectionLost: true)
    }

    /// - Returns: false when asked to close.
    private mutating func serve() throws(DirectoryError) -> Bool {
        for command in mailbox.take() {
            switch command {
            case .start(let operation): begin(operation)
            case .abandon(let id): cancel(id)
            case .resume: isPaused = false
            case .close: return false
            }
        }
        for dropped in table.dropExpired(at: .now) { drop(dropped, .timeout) }
        let isBlocked = try !send()
        let isIdle = isPaused ? true : try !receive() && !handle.isDataReady
        guard isIdle else { return true }
        try sleep(untilWritable: isBlocked)
        return true
    }

    private mutating func begin(_ operation: Operation) {
        var isStream = false
        if case .stream = operation.reply { isStream = true }
        operations[operation.id] = operation
        table.enqueue(operation.id, deadline: operation.deadline, isStream: isStream)
    }

    private mutating func cancel(_ id: OperationTable.ID) {
        if let dropped = table.drop(id) { drop(dropped, .userCancelled) }
    }

    private mutating func drop(_ dropped: OperationTable.Dropped, _ code: ResultCode) {
        guard let operation = operations.removeValue(forKey: dropped.id) else { return }
        if let messageID = dropped.messageID { abandoned.append(messageID) }
        operation.fail(DirectoryError(code, operation: "\(operation.request)", server: "\(server)"))
    }

    /// Sends as long as the socket takes it.
    /// - Returns: false when something is left.
    private mutating func send() throws(DirectoryError) -> Bool {
        while let messageID = abandoned.first {
            guard isWritable else { return false }
            abandoned.removeFirst()
            try handle.abandon(messageID)
        }
        while let id = table.next {
            guard isWritable else { return false }
            guard let operation = operations[id] else {
                _ = table.drop(id)
                continue
            }
            do throws(DirectoryError) {
                table.sent(as: try handle.send(operation.request, controls: operation.controls))
            } catch {
                guard !error.isConnectionLost else { throw error }
                _ = table.drop(id)
                operations.removeValue(forKey: id)?.fail(error)
            }
        }
        return true
    }

    private var isWritable: Bool {
        var request = pollfd(fd: handle.descriptor, events: Int16(POLLOUT), revents: 0)
        return unsafe poll(&request, 1, 0) != 0
    }

    /// Reads what has come.
    /// - Returns: whether there was anything.
    private mutating func receive() throws(DirectoryError) -> Bool {
        var count = 0
        while count < Self.burst, !isPaused, let (messageID, message) = try handle.receive() {
            count += 1
            if messageID == 0 {
                try heed(message)
            } else {
                deliver(table.received(message, for: messageID))
            }
        }
        return count > 0
    }

    /// The server's own notices, of which one says that it closes the connection.
    private func heed(_ message: Message) throws(DirectoryError) {
        guard case .result(let notice) = message, notice.identifier == Self.disconnection else { return }
        throw handle.lost(notice.code, notice.diagnostic)
    }

    /// Notice of Disconnection (RFC 4511, section 4.4.1).
    private static let disconnection = "1.3.6.1.4.1.1466.20036"

    private mutating func deliver(_ action: OperationTable.Action?) {
        switch action {
        case nil, .gathered: break
        case .finish(let id, let response):
            if case .once(let continuation) = operations.removeValue(forKey: id)?.reply {
                continuation.resume(returning: .success(response))
            }
        case .forward(let id, let message):
            guard case .stream(let stream) = operations[id]?.reply else { break }
            if stream.receive(message) { isPaused = true }
            if case .result = message { operations.removeValue(forKey: id) }
        }
    }

    private func sleep(untilWritable: Bool) throws(DirectoryError) {
        let interest = (isPaused ? 0 : POLLIN) | (untilWritable ? POLLOUT : 0)
        // A negative descriptor is ignored; without interest a broken connection would wake us for ever.
        var requests = [
            pollfd(fd: mailbox.descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: interest == 0 ? -1 : handle.descriptor, events: Int16(interest), revents: 0),
        ]
        let patience = table.nextDeadline.map { ContinuousClock.now.duration(to: $0).milliseconds } ?? -1
        guard unsafe poll(&requests, 2, patience) < 0, errno != EINTR else { return }
        throw handle.lost(.localError, "\(SystemError(errno))")
    }
}

extension DirectoryError {
    /// The same for another operation of the same connection.
    func about(_ operation: String) -> DirectoryError {
        var error = self
        error.operation = operation
        return error
    }
}
