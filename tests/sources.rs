//! Real video: H.264 files that OpenCV writes when the test runs, read back, cut off, and sent over RTSP by a small real
//! server. Skipped, visibly, where this machine's FFmpeg has no H.264 encoder. V4L2 devices are not tested: there are none.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use aerie::geo::{Attitude, LatLon, Pose, PoseSigma};
use aerie::perception::sources::live::Feed;
use aerie::perception::sources::newest::Taken;
use aerie::perception::sources::video::Video;
use aerie::perception::sources::vigil::Limits;
use aerie::perception::sources::{Address, Lens, Source, SourceError};
use base64::Engine;
use opencv::core::{Mat, Scalar, Size, Vec3b};
use opencv::prelude::*;
use opencv::videoio::{self, VideoWriter};

const WIDTH: i32 = 320;
const HEIGHT: i32 = 240;
const PATIENCE: Duration = Duration::from_secs(60);

/// A bar of light that moves to the right, four pixels a frame.
fn record(path: &Path, frames: i32) -> bool {
    let fourcc = VideoWriter::fourcc('H', '2', '6', '4').unwrap();
    let size = Size::new(WIDTH, HEIGHT);
    let mut writer = VideoWriter::new_with_backend(path, videoio::CAP_FFMPEG, fourcc, 25.0, size, true).unwrap();
    if !writer.is_opened().unwrap() {
        println!("skipped: this OpenCV writes no H.264 ({})", path.display());
        return false;
    }
    for frame in 0..frames {
        let mut picture = Mat::new_size_with_default(size, Vec3b::opencv_type(), Scalar::all(40.0)).unwrap();
        for y in 0..HEIGHT {
            for x in 0..12 {
                *picture.at_2d_mut::<Vec3b>(y, (frame * 4 + x) % WIDTH).unwrap() = Vec3b::from([40, 40, 250]);
            }
        }
        writer.write(&picture).unwrap();
    }
    writer.release().unwrap();
    true
}

/// Where the bar is, from its red.
fn bar(source: &mut Video) -> f64 {
    let picture = source.frame().unwrap().picture.into_rgb().unwrap();
    let row = HEIGHT as u32 / 2;
    let red: Vec<u32> = (0..WIDTH as u32).filter(|x| picture.get_pixel(*x, row)[0] > 150).collect();
    red.iter().map(|x| f64::from(*x)).sum::<f64>() / red.len() as f64
}

fn pose() -> Option<Pose> {
    let sigma = PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 };
    let attitude = Attitude { yaw_deg: 0.0, pitch_deg: -90.0, roll_deg: 0.0 };
    Some(Pose { at: LatLon { lat: 23.0, lon: 113.0 }, height_m: 50.0, attitude, sigma })
}

fn open(path: &Path) -> Result<Video, SourceError> {
    let lens = Some(Lens { horizontal_fov_deg: 66.0 });
    Video::open(&Address::Video(path.to_owned()), Box::new(pose()), lens)
}

#[test]
fn every_frame_of_a_file_comes_in_order_with_its_time_its_colours_and_its_pose() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flight.mp4");
    if !record(&path, 40) {
        return;
    }
    let mut video = open(&path).unwrap();
    let mut frames = 0;
    while let Some(stamp) = video.advance().unwrap() {
        assert_eq!(stamp.index, frames);
        assert!((stamp.at_s - frames as f64 / 25.0).abs() < 0.021, "{stamp:?}");
        if frames % 13 == 0 {
            let at = bar(&mut video);
            assert!((at - (frames as f64 * 4.0 + 5.5)).abs() < 3.0, "frame {frames} shows the bar at {at}");
            let view = video.view(stamp).unwrap();
            assert_eq!((view.camera.width_px, view.pose.height_m), (WIDTH as u32, 50.0));
        }
        frames += 1;
    }
    assert_eq!((frames, video.missing()), (40, 0));
}

#[test]
fn a_video_that_ends_mid_frame_gives_what_is_whole_and_says_that_the_rest_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flight.mkv");
    if !record(&path, 60) {
        return;
    }
    let bytes = std::fs::read(&path).unwrap();
    let cut = folder.path().join("cut.mkv");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let mut video = open(&cut).unwrap();
    let mut frames = 0;
    while video.advance().unwrap().is_some() {
        frames += 1;
    }
    assert!((5..55).contains(&frames), "{frames}");
    assert!(video.missing().abs_diff(60 - frames) <= 1, "{} missing after {frames}", video.missing());
}

#[test]
fn what_is_no_video_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("empty.mp4", &b""[..]), ("text.mp4", b"not a video at all")] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let Err(error) = open(&path) else { panic!("{name} was opened") };
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// The NAL units of a raw H.264 stream.
fn nals(stream: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i + 3).collect();
    let mut ends: Vec<usize> = starts.iter().skip(1).map(|start| start - 3).collect();
    ends.push(stream.len());
    let trim = |nal: &[u8]| nal[..nal.len() - nal.iter().rev().take_while(|b| **b == 0).count()].to_vec();
    starts.iter().zip(ends).map(|(start, end)| trim(&stream[*start..end])).collect()
}

/// One connection: sends frames while the test says so. `None` from the test ends it.
fn serve(stream: TcpStream, nals: &[Vec<u8>], orders: &Receiver<usize>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut to = stream;
    loop {
        let (mut request, mut sequence) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if request.is_empty() {
                request = line.clone();
            }
            if let Some(number) = line.strip_prefix("CSeq:") {
                sequence = number.trim().to_owned();
            }
        }
        let method = request.split(' ').next()?.to_owned();
        let ok = format!("RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n");
        let answer = match method.as_str() {
            "OPTIONS" => format!("{ok}Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"),
            "DESCRIBE" => {
                let parameter = |kind: u8| {
                    let set = nals.iter().find(|nal| nal[0] & 31 == kind).unwrap();
                    base64::engine::general_purpose::STANDARD.encode(set)
                };
                let sdp = format!(
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
                     a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; sprop-parameter-sets={},{}\r\na=control:track1\r\n",
                    parameter(7),
                    parameter(8)
                );
                format!("{ok}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
            }
            "SETUP" => format!("{ok}Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"),
            "PLAY" => format!("{ok}Session: 1\r\nRange: npt=0-\r\n\r\n"),
            _ => format!("{ok}\r\n"),
        };
        to.write_all(answer.as_bytes()).ok()?;
        if method == "PLAY" {
            break;
        }
    }
    let (mut rtp_sequence, mut time) = (0u16, 0u32);
    let mut nals = nals.iter().cycle();
    // The test lets so many frames through, then as many more as it likes; when it hangs up, so do we.
    while let Ok(frames) = orders.recv() {
        let mut sent = 0;
        while sent < frames {
            let nal = nals.next()?;
            let is_picture = (1..=5).contains(&(nal[0] & 31));
            for packet in packets(nal) {
                rtp_sequence = rtp_sequence.wrapping_add(1);
                let mut rtp = vec![0x80, if is_picture && packet.1 { 0xE0 } else { 0x60 }];
                rtp.extend(rtp_sequence.to_be_bytes());
                rtp.extend(time.to_be_bytes());
                rtp.extend(7u32.to_be_bytes());
                rtp.extend(packet.0);
                let mut framed = vec![b'$', 0];
                framed.extend((rtp.len() as u16).to_be_bytes());
                framed.extend(rtp);
                to.write_all(&framed).ok()?;
            }
            if is_picture {
                sent += 1;
                time = time.wrapping_add(3600);
            }
        }
    }
    Some(())
}

/// RFC 6184: whole, or in fragments; and whether it is the last of its unit.
fn packets(nal: &[u8]) -> Vec<(Vec<u8>, bool)> {
    const MOST: usize = 1400;
    if nal.len() <= MOST {
        return vec![(nal.to_vec(), true)];
    }
    let parts: Vec<&[u8]> = nal[1..].chunks(MOST).collect();
    let last = parts.len() - 1;
    parts
        .into_iter()
        .enumerate()
        .map(|(i, part)| {
            let flags = if i == 0 {
                0x80
            } else if i == last {
                0x40
            } else {
                0
            };
            let mut packet = vec![(nal[0] & 0xE0) | 28, flags | (nal[0] & 31)];
            packet.extend(part);
            (packet, i == last)
        })
        .collect()
}

/// Accepts connections; gives the test a wire to each.
fn camera(stream: PathBuf) -> (String, Receiver<SyncSender<usize>>) {
    let nals = nals(&std::fs::read(stream).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("rtsp://user:secret@{}/live", listener.local_addr().unwrap());
    let (wires, connections) = mpsc::sync_channel(8);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (wire, orders) = mpsc::sync_channel(64);
            if wires.send(wire).is_err() {
                return;
            }
            let nals = nals.clone();
            std::thread::spawn(move || connection.ok().and_then(|stream| serve(stream, &nals, &orders)));
        }
    });
    (address, connections)
}

#[test]
fn a_silent_rtsp_camera_is_noticed_and_opened_again_and_its_frames_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.h264");
    if !record(&path, 100) {
        return;
    }
    let (url, connections) = camera(path);
    let address = Address::parse(&url).unwrap();
    let opener = move || -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(Video::open(&address, Box::new(pose()), Some(Lens { horizontal_fov_deg: 66.0 }))?))
    };
    let feed = Feed::start(Arc::new(opener), Duration::ZERO, Limits::default());
    let first = connections.recv_timeout(PATIENCE).expect("the feed connects");
    // Enough for FFmpeg to know the stream, and some to see.
    first.send(400).unwrap();
    let Taken::Item(frame) = feed.take(PATIENCE) else { panic!("no frame came: {:?}", feed.state()) };
    assert_eq!((frame.picture.width(), frame.picture.height()), (WIDTH as u32, HEIGHT as u32));
    assert_eq!(frame.view.unwrap().pose.height_m, 50.0);
    // The line stays open and says nothing more.
    let second = connections.recv_timeout(PATIENCE).expect("silence is noticed, the camera is opened again");
    let state = feed.state();
    assert!(state.stalls == 1 && !state.flows, "{state:?}");
    second.send(400).unwrap();
    while !matches!(feed.take(Duration::from_millis(100)), Taken::Item(_)) {
        assert!(connections.try_recv().is_err(), "the second connection gave nothing: {:?}", feed.state());
    }
    // The camera hangs up.
    drop(second);
    connections.recv_timeout(PATIENCE).expect("a closed line is opened again");
    let told = feed.state().last_error.unwrap_or_default();
    assert!(!told.contains("secret"), "{told}");
}

/// What only a program's start can set, it sets for a live source by beginning anew.
#[tokio::test]
async fn a_live_source_is_looked_at_by_a_program_whose_allocator_gives_memory_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_aerie"))
        .args(["inspect", "rtsp://127.0.0.1:1/none", "--out"])
        .arg(folder.path().join("out"))
        .env_remove("GLIBC_TUNABLES")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let environment = format!("/proc/{}/environ", child.id());
    let asked = || {
        std::fs::read(&environment).is_ok_and(|e| String::from_utf8_lossy(&e).contains("glibc.malloc.mmap_threshold="))
    };
    let mut patience = 400;
    while !asked() && patience > 0 && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        patience -= 1;
    }
    let asked = asked();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(asked);
}
