import Glibc
import SystemPackage

/// A control socket's thread: owns the descriptors and drives one `ControlExchange` for each client.
final class ControlLoop {
    private struct Visit {
        let number: UInt64
        let user: UInt32?
        var exchange: ControlExchange
        var task: Task<Void, Never>?
    }

    private let listener: ControlListener
    private let mailbox: ControlMailbox
    private let admission: ControlAdmission
    private let patience: Duration
    private let handler: ControlServer.Handler
    private let clock = ContinuousClock()
    private var visits: [Int32: Visit] = [:]
    private var visitCount: UInt64 = 0
    /// When listening goes on after the kernel could take in no more.
    private var pausedUntil: ContinuousClock.Instant?

    init(
        listener: ControlListener, mailbox: ControlMailbox, admission: ControlAdmission, patience: Duration,
        handler: @escaping ControlServer.Handler
    ) {
        self.listener = listener
        self.mailbox = mailbox
        self.admission = admission
        self.patience = patience
        self.handler = handler
    }

    func run() {
        while true {
            for ready in wait() where ready.revents != 0 && visits[ready.fd] != nil { serve(ready) }
            let content = mailbox.collect()
            for item in content.replies where visits[item.client]?.number == item.visit {
                perform(visits[item.client]?.exchange.answered(item.reply, now: clock.now) ?? .wait, for: item.client)
                write(to: item.client)
            }
            if content.isStopping { break }
            sendLateOnesAway()
        }
        for client in Array(visits.keys) { end(client) }
        listener.close()
        mailbox.ended()
    }

    /// Sleeps until something happens, and takes in those who knock.
    private func wait() -> [pollfd] {
        var watched = [pollfd(fd: mailbox.wakeUp.descriptor, events: Int16(POLLIN), revents: 0)]
        if let until = pausedUntil, until <= clock.now { pausedUntil = nil }
        if visits.count < admission.clients, pausedUntil == nil {
            watched.append(pollfd(fd: listener.descriptor, events: Int16(POLLIN), revents: 0))
        }
        for (client, visit) in visits {
            // Without a wanted event poll still tells when the client has hung up.
            let events = visit.exchange.reads ? POLLIN : visit.exchange.unsent.isEmpty ? 0 : POLLOUT
            watched.append(pollfd(fd: client, events: Int16(events), revents: 0))
        }
        guard poll(&watched, nfds_t(watched.count), milliseconds()) > 0 else { return [] }
        if watched.contains(where: { $0.fd == listener.descriptor && $0.revents != 0 }) { takeIn() }
        return watched
    }

    /// Until the next deadline, rounded up; -1 when there is none.
    private func milliseconds() -> Int32 {
        guard let next = (visits.values.compactMap(\.exchange.deadline) + [pausedUntil].compactMap(\.self)).min() else {
            return -1
        }
        let left = max(.zero, next - clock.now).components
        return Int32(clamping: left.seconds * 1_000 + left.attoseconds / 1_000_000_000_000_000 + 1)
    }

    /// No more at a time than are served at once, so that a flood of those who are sent away keeps nobody waiting.
    private func takeIn() {
        for _ in 0..<admission.clients where visits.count < admission.clients {
            do throws(Errno) {
                guard let (client, user) = try listener.accept() else { continue }
                let others = visits.values.count { $0.user == user }
                if let refusal = admission.refusal(of: user, beside: others) {
                    let bytes = ControlReply.refusal(refusal).bytes
                    send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL))
                    close(client)
                    continue
                }
                visitCount += 1
                visits[client] = Visit(
                    number: visitCount, user: user,
                    exchange: ControlExchange(
                        now: clock.now, patience: patience, requestLimit: admission.requestLimit), task: nil)
            } catch {
                // Out of descriptors or memory: the client stays in the queue, and asking at once again would only spin.
                if error != .wouldBlock { pausedUntil = clock.now + .seconds(1) }
                return
            }
        }
    }

    private func serve(_ ready: pollfd) {
        let client = ready.fd
        if visits[client]?.exchange.reads == true {
            read(from: client)
        } else if ready.revents & Int16(POLLHUP | POLLERR | POLLNVAL) != 0 {
            end(client)
        } else {
            write(to: client)
        }
    }

    private func read(from client: Int32) {
        var buffer = [UInt8](repeating: 0, count: 16 * 1024)
        let count = recv(client, &buffer, buffer.count, 0)
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count >= 0 else { return end(client) }
        let action =
            count == 0
            ? visits[client]?.exchange.endOfInput()
            : visits[client]?.exchange.received(buffer[..<count], now: clock.now)
        perform(action ?? .wait, for: client)
        write(to: client)
    }

    private func write(to client: Int32) {
        guard let rest = visits[client]?.exchange.unsent, !rest.isEmpty else { return }
        let count = rest.withUnsafeBytes { send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count >= 0 else { return end(client) }
        perform(visits[client]?.exchange.sent(count) ?? .wait, for: client)
    }

    private func perform(_ action: ControlExchange.Action, for client: Int32) {
        switch action {
        case .wait: return
        case .close: end(client)
        case .handle(let request):
            guard let visit = visits[client] else { return }
            var request = request
            request.user = visit.user
            visits[client]?.task = Task { [handler, mailbox, request] in
                mailbox.post(await handler(request), to: client, visit: visit.number)
            }
        }
    }

    private func sendLateOnesAway() {
        let now = clock.now
        for (client, visit) in visits where visit.exchange.isLate(at: now) { end(client) }
    }

    private func end(_ client: Int32) {
        visits.removeValue(forKey: client)?.task?.cancel()
        close(client)
    }
}
